// Chromium for tests: takes one JSON command a line, answers each with one line. The tests themselves are in Python.
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const browser = await chromium.launch({
  executablePath: process.argv[2],
  ignoreDefaultArgs: ["--disable-back-forward-cache"], // as browsers are
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP *.example.test 127.0.0.1",
  ],
});
const contexts = new Map();
const pages = new Map();
let made = 0;

// A promise that a page never settles is an error of the test, not a test that never ends.
const within = (promise) => {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error("no result after 20 s")), 20_000)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

const commands = {
  async context({ anyCertificate = false }) {
    const context = await browser.newContext({ ignoreHTTPSErrors: anyCertificate });
    context.setDefaultTimeout(10_000);
    const known = { context, urls: [], errors: [], console: [] };
    context.on("request", (request) => known.urls.push(request.url()));
    context.on("weberror", (thrown) => known.errors.push(String(thrown.error())));
    context.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) known.console.push(`${message.type()}: ${message.text()}`);
    });
    contexts.set(++made, known);
    return made;
  },
  async page({ context }) {
    pages.set(++made, await contexts.get(context).context.newPage());
    return made;
  },
  async goto({ page, url }) {
    await pages.get(page).goto(url);
  },
  async reload({ page }) {
    await pages.get(page).reload();
  },
  async back({ page }) {
    await pages.get(page).goBack({ waitUntil: "commit" });
  },
  async evaluate({ page, script }) {
    return await within(pages.get(page).evaluate(script));
  },
  async until({ page, script }) {
    await pages.get(page).waitForFunction(script);
  },
  // The same on a page whose policy forbids `eval`, which waitForFunction uses: asked frame by frame, without navigation.
  async see({ page, script }) {
    const latest = Date.now() + 10_000;
    const asked = `new Promise((told) => requestAnimationFrame(() => told(Boolean(${script}))))`;
    while (!(await pages.get(page).evaluate(asked))) {
      if (Date.now() > latest) throw new Error(`not so after 10 s: ${script}`);
    }
  },
  async click({ page, selector, modifiers }) {
    await pages.get(page).click(selector, { modifiers });
  },
  async fill({ page, selector, text }) {
    await pages.get(page).fill(selector, text);
  },
  async press({ page, key }) {
    await pages.get(page).keyboard.press(key);
  },
  // As another device, or another of its settings, would show the page.
  async show({ page, width, height, scheme }) {
    await pages.get(page).setViewportSize({ width, height });
    await pages.get(page).emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
  },
  async screenshot({ page, path }) {
    await pages.get(page).screenshot({ path, fullPage: true });
  },
  async allow({ context, permissions }) {
    await contexts.get(context).context.grantPermissions(permissions);
  },
  async closePage({ page }) {
    await pages.get(page).close({ runBeforeUnload: true });
  },
  async offline({ context, offline }) {
    await contexts.get(context).context.setOffline(offline);
  },
  async cookies({ context }) {
    return await contexts.get(context).context.cookies();
  },
  async addCookie({ context, cookie }) {
    await contexts.get(context).context.addCookies([cookie]);
  },
  // Processor time, not the clock's: what else the machine does has no part in it.
  async scriptSeconds({ page, script }) {
    const session = await pages.get(page).context().newCDPSession(pages.get(page));
    await session.send("Performance.enable", { timeDomain: "threadTicks" });
    const read = async () =>
      (await session.send("Performance.getMetrics")).metrics.find((metric) => metric.name === "ScriptDuration").value;
    const before = await read();
    await pages.get(page).evaluate(script);
    return (await read()) - before;
  },
  async seen({ context }) {
    const { urls, errors, console } = contexts.get(context);
    return { urls, errors, console };
  },
  async closeContext({ context }) {
    await contexts.get(context).context.close();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...given } = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await commands[op](given)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
await browser.close();
