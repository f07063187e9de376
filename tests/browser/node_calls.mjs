// What a Node.js program does with the server SDK; argument: the platform's address. Prints JSON.
import { Analytics } from "../../segment_do/browser/dist/server.js";

const [host, what] = process.argv.slice(2);
const outcome = (promise) => promise.then(() => "stored", (error) => error.code);
const print = (value) => console.log(JSON.stringify(value));

if (what === "six") {
  const client = new Analytics({ writeKey: "k", host, flushInterval: 10 });
  const calls = [
    client.identify("u1", { plan: "pro" }),
    client.track({ userId: "u1", event: "A", properties: { text: "x".repeat(2000) } }),
    client.track("B", { n: 1 }, { userId: "u1" }),
    client.page("Home", {}, { anonymousId: "a1" }),
    client.screen("Home", {}, { userId: "u1" }),
    client.group("acme", { size: 3 }, { userId: "u1" }),
    client.alias("u2", "u1"),
    client.batch([{ type: "track", event: "C", userId: 7 }]),
  ];
  print(await Promise.all(calls.map(outcome)));
  await client.closeAndFlush();
} else if (what === "wrong") {
  const client = new Analytics({ writeKey: "k", host, maxQueue: 2, flushInterval: 10 });
  const calls = [client.track("no id"), client.track({ userId: "u" }), client.track("1", {}, { userId: "u" })];
  calls.push(client.track("2", {}, { userId: "u" }), client.track("3", {}, { userId: "u" }));
  print(await Promise.all(calls.map(outcome)));
  client.track("nobody looks at this one"); // its rejection must not end the process
  await client.closeAndFlush();
  print(await outcome(client.track("late", {}, { userId: "u" })));
} else if (what === "agent") {
  const tom = Analytics.for({ name: "tom" }, { host, token: "t", flushInterval: 10 });
  tom.track("Answered");
  tom.identify("ralph");
  tom.track("Helped");
  await tom.flush();
  print([tom === Analytics.for("tom", { host, token: "t" })]);
  await tom.closeAndFlush();
} else if (what === "one by one") {
  const client = new Analytics({ writeKey: "k", host, flushAt: 1, flushInterval: 60_000 });
  for (let n = 0; n < 5; n++) await client.track("E", { n }, { userId: "u" });
  print("done");
} else if (what === "values") {
  const client = new Analytics({ writeKey: "k", host, flushInterval: 10 });
  const loop = {};
  loop.loop = loop;
  const shared = { n: 1 };
  const calls = [
    client.track("circular", loop, { userId: "u" }),
    client.track("bigint", { n: 1n }, { userId: "u" }),
    client.track("large", { text: "x".repeat(40_000) }, { userId: "u" }),
    client.track("date", { at: new Date(0), half: "\ud83d", none: undefined, nan: NaN }, { userId: 12 }),
    client.track("copied", shared, { userId: 12345678901234567890n }),
    client.identify(null, { plan: "pro" }, { userId: "optional" }),
    client.track("nowhere", {}, { userId: {} }),
  ];
  shared.n = 2;
  print(await Promise.all(calls.map(outcome)));
  await client.closeAndFlush();
} else if (what === "close") {
  const client = new Analytics({ writeKey: "k", host, flushInterval: 10 });
  const call = client.track("unanswered", {}, { userId: "u" });
  const started = performance.now();
  await client.closeAndFlush({ timeout: 300 });
  print([await outcome(call), performance.now() - started]);
} else if (what === "home") {
  const tom = Analytics.for("tom", { flushInterval: 10 });
  print(await outcome(tom.track("Found")));
  await tom.closeAndFlush();
} else if (what === "late home") {
  const { writeFile } = await import("node:fs/promises");
  const tom = Analytics.for("tom", { flushInterval: 10 });
  const call = outcome(tom.track("Waited"));
  await new Promise((done) => setTimeout(done, 100)); // it has looked, and found half a file
  await writeFile(`${process.env.SEGMENT_DO_HOME}/run.json`, JSON.stringify({ url: host }));
  print(await call);
  await tom.closeAndFlush();
} else if (what === "elsewhere") {
  const tom = Analytics.for("tom", { host: "http://platform.example.test:9", flushInterval: 10 });
  print(await outcome(tom.track("Never")));
  await tom.closeAndFlush();
} else if (what === "express") {
  const { default: express } = await import("express");
  const client = new Analytics({ writeKey: "k", host, flushInterval: 10 });
  const app = express();
  app.set("env", "test"); // Express keeps quiet about the error below
  app.use(client.middleware({
    skip: (request) => request.url === "/health",
    properties: (request) => ({ agent: request.get("x-agent") }),
  }));
  const router = express.Router();
  router.get("/:id", (request, response) => response.json({ id: request.params.id }));
  app.use("/users", router);
  app.get("/health", (_request, response) => response.send("ok"));
  app.get("/broken", () => { throw new Error("on purpose"); });
  const server = app.listen(0, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  const url = `http://127.0.0.1:${server.address().port}`;
  const get = async (path, cookie) => (await fetch(url + path, { headers: { cookie, "x-agent": "tom" } })).text();
  await get("/users/7?secret=1", "a=b; ajs_anonymous_id=a1; ajs_user_id=%22u1%22");
  await get("/health", "");
  await get("/broken", "ajs_anonymous_id=%E0%A4%A; ajs_user_id=null");
  await get("/nothing/here", "");
  server.close();
  server.closeAllConnections();
  await client.closeAndFlush();
  print("done");
}
