// What can be measured of how a page looks: evaluated in it, gives a list of complaints, empty where all is well.
(() => {
  const complaints = [];
  const root = document.documentElement;
  const name = (element) => `${element.tagName.toLowerCase()}${element.id ? `#${element.id}` : ""}.${element.className} "${element.textContent.trim().slice(0, 40)}"`;
  if (root.scrollWidth > root.clientWidth) complaints.push(`overflows sideways: ${root.scrollWidth} > ${root.clientWidth}`);

  const channels = (color) => {
    const [red, green, blue, alpha = 1] = color.match(/[\d.]+/g).map(Number);
    return { rgb: [red, green, blue], alpha };
  };
  const luminance = ({ rgb }) => {
    const [red, green, blue] = rgb.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (one, other) => {
    const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = channels(getComputedStyle(at).backgroundColor);
      if (found.alpha === 1) return found;
      if (found.alpha > 0) complaints.push(`a half-transparent background cannot be measured: ${name(at)}`);
    }
    return { rgb: [255, 255, 255], alpha: 1 };
  };
  const legible = (element, color, least) => {
    const ratio = contrast(channels(color), behind(element));
    if (ratio < least) complaints.push(`contrast ${ratio.toFixed(2)} < ${least}: ${name(element)}`);
  };

  // What is seen of each line of text: its box, cut by what scrolls or hides around it.
  const lines = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    const style = getComputedStyle(parent);
    if (!node.data.trim() || parent.closest("noscript, .only-read, .skip, select")) continue;
    if (!parent.checkVisibility({ visibilityProperty: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    let seen = false;
    for (const box of range.getClientRects()) {
      let { left, top, right, bottom } = box;
      for (let at = parent; at && at !== document.body; at = at.parentElement) {
        const { overflowX, overflowY } = getComputedStyle(at);
        if (overflowX === "visible" && overflowY === "visible") continue;
        const around = at.getBoundingClientRect();
        const cutSideways = overflowX === "hidden" || overflowX === "clip";
        if (cutSideways && (left < around.left - 1 || right > around.right + 1)) complaints.push(`cut off: ${name(parent)}`);
        [left, right] = [Math.max(left, around.left), Math.min(right, around.right)];
        [top, bottom] = [Math.max(top, around.top), Math.min(bottom, around.bottom)];
      }
      if (right - left < 1 || bottom - top < 1) continue;
      seen = true;
      if (left < -1 || right > root.clientWidth + 1) complaints.push(`outside of the page: ${name(parent)}`);
      lines.push({ parent, left, top, right, bottom });
    }
    if (!seen) continue;
    const size = parseFloat(style.fontSize);
    if (size < 12) complaints.push(`text of ${size} px: ${name(parent)}`);
    legible(parent, style.color, size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5);
  }
  lines.sort((one, other) => one.top - other.top);
  lines.forEach((one, index) => {
    for (const other of lines.slice(index + 1)) {
      if (other.top >= one.bottom - 4) break;
      const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      const high = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
      if (wide > 1.5 && high > 4) complaints.push(`overlap: ${name(one.parent)} and ${name(other.parent)}`);
    }
  });
  if (lines.length < 60) complaints.push(`only ${lines.length} lines of text are seen`);

  for (const control of document.querySelectorAll("button, input, select, summary, a")) {
    const box = control.getBoundingClientRect();
    const style = getComputedStyle(control);
    if (control.matches(".skip") || box.width === 0) continue;
    const inside = control.matches("input[type=checkbox]") ? control.closest("label").getBoundingClientRect() : box;
    if (Math.min(inside.width, inside.height) < 24) complaints.push(`smaller than 24 px: ${name(control)}`);
    const label = control.labels?.[0]?.textContent ?? control.textContent;
    if (!label.trim()) complaints.push(`has no name: ${control.outerHTML.slice(0, 80)}`);
    if (control.matches("input:not([type=checkbox]), select")) {
      legible(control, style.color, 4.5);
      legible(control, style.borderTopColor, 3);
      if (control.scrollWidth > control.clientWidth + 1) complaints.push(`its text is cut: ${control.outerHTML.slice(0, 80)}`);
    }
  }
  const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
  if (new Set(ids).size < ids.length) complaints.push("two elements have one id");
  return complaints;
})();
