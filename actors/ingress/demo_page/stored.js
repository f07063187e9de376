// Who the visitor is here, the profile that the platform has of them, and the answer of the page's query.

const WAIT_MS = 250;
const AGAIN_MS = 2000;

const one = (selector) => document.querySelector(selector);
const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** A function that shows all of it anew, a moment after it is called; one look at a time. */
export function shows() {
  let timer;
  let looking = false;
  let wanted = false;
  const look = async () => {
    timer = undefined;
    if (looking) {
      wanted = true;
      return;
    }
    looking = true;
    wanted = false;
    showVisitor();
    const fine = await Promise.all([showProfile(), showCounts()]).catch(() => [false]);
    looking = false;
    if (wanted || !fine.every(Boolean)) later(wanted ? WAIT_MS : AGAIN_MS);
  };
  const later = (wait) => (timer ??= setTimeout(look, wait));
  return () => {
    showVisitor();
    later(WAIT_MS);
  };
}

function visitor() {
  const { analytics } = window;
  if (typeof analytics.user !== "function") return {};
  const user = analytics.user();
  return { userId: user.id(), anonymousId: user.anonymousId(), groupId: analytics.group().id() };
}

function showVisitor() {
  const { userId, anonymousId, groupId } = visitor();
  one("#user-id").textContent = userId ?? "none";
  one("#anonymous-id").textContent = anonymousId ?? "none";
  one("#group-id").textContent = groupId ?? "none";
}

async function showProfile() {
  const { userId, anonymousId } = visitor();
  const asked = userId ? ["user_id", userId] : ["anonymous_id", anonymousId];
  if (!asked[1]) return true;
  const answer = await fetch(`/demo/profile?${new URLSearchParams([asked])}`);
  if (!answer.ok) return answer.status < 429; // refused for good: asking again would change nothing
  const { profile } = await answer.json();
  const facts = [];
  if (profile) {
    facts.push(["profileId", profile.profileId]);
    for (const { type, id } of profile.externalIds) facts.push([type, id]);
    for (const group of profile.groups) facts.push(["group", group]);
    for (const [name, value] of Object.entries(profile.traits)) facts.push([name, text(value)]);
  } else {
    facts.push(["profile", "not seen yet"]);
  }
  one("#profile").replaceChildren(...facts.flatMap(([name, value]) => [made("dt", name), made("dd", value)]));
  return true;
}

async function showCounts() {
  const answer = await fetch("/demo/sql");
  if (!answer.ok) return answer.status < 429;
  const { rows, elapsedMs } = await answer.json();
  const lines = rows.map((row) => {
    const line = document.createElement("tr");
    line.append(...row.map((value) => made("td", value === null ? "-" : text(value))));
    return line;
  });
  if (lines.length) one("#result").replaceChildren(...lines);
  one("#sql-time").textContent = `answered in ${Math.round(elapsedMs)} ms`;
  return true;
}

function made(tag, content) {
  const element = document.createElement(tag);
  element.textContent = content;
  return element;
}
