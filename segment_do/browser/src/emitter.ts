/** Listeners by name. A listener that throws harms neither its neighbours nor the page. */

export type Listener = (...args: any[]) => unknown;

export class Emitter {
  private readonly listeners: Record<string, Listener[]> = {};

  on(name: string, listener: Listener): this {
    (this.listeners[name] ??= []).push(listener);
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
    this.listeners[name] = (this.listeners[name] ?? []).filter((each) => each !== listener);
    return this;
  }

  emit(name: string, ...args: unknown[]): this {
    for (const listener of this.listeners[name] ?? []) {
      try {
        listener(...args);
      } catch (error) {
        if (name !== "error") this.emit("error", error);
      }
    }
    return this;
  }
}
