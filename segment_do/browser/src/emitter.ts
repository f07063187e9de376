/** Listeners by name. A listener that throws harms neither its neighbours nor the page. */

export type Listener = (...args: any[]) => unknown;

export class Emitter {
  private readonly listeners = new Map<string, Listener[]>();

  on(name: string, listener: Listener): this {
    this.listeners.set(name, [...(this.listeners.get(name) ?? []), listener]);
    return this;
  }

  once(name: string, listener: Listener): this {
    const only: Listener = (...args) => {
      this.off(name, only);
      listener(...args);
    };
    return this.on(name, only);
  }

  off(name: string, listener: Listener): this {
    const left = (this.listeners.get(name) ?? []).filter((each) => each !== listener);
    this.listeners.set(name, left);
    return this;
  }

  emit(name: string, ...args: unknown[]): this {
    for (const listener of this.listeners.get(name) ?? []) {
      try {
        listener(...args);
      } catch (error) {
        if (name !== "error") this.emit("error", { messageId: "", reason: reasonOf(error) });
      }
    }
    return this;
  }
}

/** What was thrown, as text; some of what can be thrown has none. */
export function reasonOf(thrown: unknown): string {
  try {
    return String(thrown);
  } catch {
    return "something without a text was thrown";
  }
}
