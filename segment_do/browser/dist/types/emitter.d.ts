/** Listeners by name. A listener that throws harms neither its neighbours nor the page. */
export type Listener = (...args: any[]) => unknown;
export declare class Emitter {
    private readonly listeners;
    on(name: string, listener: Listener): this;
    once(name: string, listener: Listener): this;
    off(name: string, listener: Listener): this;
    emit(name: string, ...args: unknown[]): this;
}
/** What was thrown, as text; some of what can be thrown has none. */
export declare function reasonOf(thrown: unknown): string;
