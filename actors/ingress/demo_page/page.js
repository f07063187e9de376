// The controls: each makes one call of the SDK, which the next script brings. Calls before it is there wait in the array.

import { Calls } from "./calls.js";
import { shows } from "./stored.js";

const one = (selector) => document.querySelector(selector);
const call = (name, ...given) => window.analytics.push([name, ...given]);
const value = (form, name) => form.elements.namedItem(name).value.trim();
const on = (selector, kind, act) => one(selector).addEventListener(kind, act);
const onSubmit = (selector, act) =>
  on(selector, "submit", (event) => {
    event.preventDefault();
    act(event.currentTarget);
  });
const filled = (fields) => Object.fromEntries(Object.entries(fields).filter(([, text]) => text !== ""));

// Consent: while it is not given, the SDK waits for this promise, and with it every call.
let release = [];
const preferences = () => ({ analytics: true, marketing: one("#marketing").checked });
const categories = () =>
  one("#allow").checked ? preferences() : new Promise((resolve) => release.push(resolve));
on("#allow", "change", (event) => {
  if (!event.currentTarget.checked) return;
  for (const go of release.splice(0)) go(preferences());
});

const key = one("meta[name=write-key]").content;
const options = {
  apiHost: location.origin,
  consent: { categories },
  cookie: { path: "/demo" }, // all ports of a host share their cookies: other programs' pages keep their own ids
  lingerMs: 250,
  useQueryString: false, // a link from elsewhere makes no events
};
window.analytics = [["load", key, options]];
const calls = new Calls(shows());
calls.follow(call);
call("page", "Demo", "Start");

const cart = new Map();
const euros = (amount) => `€${amount}`;
const total = () => [...cart.values()].reduce((sum, { price, quantity }) => sum + price * quantity, 0);
function showCart() {
  const count = [...cart.values()].reduce((sum, { quantity }) => sum + quantity, 0);
  one("#cart").textContent = count ? `${count} ${count === 1 ? "item" : "items"}, ${euros(total())}` : "The cart is empty.";
  one("#order").disabled = count === 0;
}
for (const button of document.querySelectorAll("[data-product]")) {
  button.addEventListener("click", () => {
    const { product, name } = button.dataset;
    const price = Number(button.dataset.price);
    const quantity = (cart.get(product)?.quantity ?? 0) + 1;
    cart.set(product, { product_id: product, name, price, quantity });
    call("track", "Product Added", { product_id: product, name, price, quantity: 1, currency: "EUR" });
    showCart();
  });
}
on("#order", "click", () => {
  const products = [...cart.values()];
  const order = `order-${Date.now().toString(36)}`;
  call("track", "Order Completed", { order_id: order, revenue: total(), currency: "EUR", products });
  cart.clear();
  showCart();
  one("[data-product]").focus(); // the button that had the focus can no longer be pressed
});

onSubmit("#identify", (form) =>
  call("identify", value(form, "id"), filled({ name: value(form, "name"), email: value(form, "email") })),
);
on("#reset", "click", () => call("reset"));
onSubmit("#group", (form) => call("group", value(form, "id"), { plan: value(form, "plan") }));
onSubmit("#page", (form) => call("page", value(form, "category"), value(form, "name")));
on("#newsletter", "submit", (event) => event.preventDefault());
call("trackForm", one("#newsletter"), "Newsletter Subscribed", (form) => ({ topic: value(form, "topic") }));
call("trackLink", one("#link"), "Link Clicked", (link) => ({ text: link.textContent }));

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const said = await navigator.clipboard.writeText(one(`#${button.dataset.copy}`).textContent).then(
      () => "Copied",
      () => "No access",
    );
    button.textContent = said;
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}
