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
} else if (what === "express") {
  const { createServer } = await import("node:http");
  const client = new Analytics({ writeKey: "k", host, flushInterval: 10 });
  const track = client.middleware();
  const server = createServer((request, response) => track(request, response, () => response.writeHead(404).end("no")));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${server.address().port}/path?secret=1`;
  await (await fetch(url, { headers: { cookie: "ajs_anonymous_id=a1" } })).text();
  server.close();
  server.closeAllConnections();
  await client.closeAndFlush();
  print("done");
}
