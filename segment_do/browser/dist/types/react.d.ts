/**
 * `segment.do/react`: the client for React 18 and newer, as a provider, hooks, and handlers for links, forms and errors.
 *
 * One page view a change of path, also under StrictMode, which runs effects twice. Without a provider nothing is sent and
 * nothing breaks: it is told once on the console.
 */
import { Component, type ReactElement, type ReactNode } from "react";
import { Analytics, Client, type AnalyticsOptions, type Fields } from "./index.js";
/** Give `client`, or the options to make one with; what is given first stays. */
export type AnalyticsProviderProps = {
    children?: ReactNode;
} & ({
    client: Client;
} | AnalyticsOptions);
export declare function AnalyticsProvider({ children, ...given }: AnalyticsProviderProps): ReactElement;
/** The provider's client. */
export declare function useAnalytics(): Client;
/** A page view for each change of `path` (what a router calls its location), the first one included. */
export declare function usePageViews(path: string, name?: string, properties?: Fields): void;
/** `<a href="/signup" onClick={trackLink(analytics, "Signup Clicked")}>`: the link works as ever, and is not delayed. */
export declare function trackLink(client: Client, event: string, properties?: Fields): () => void;
/** `<form onSubmit={trackForm(analytics, "Form Sent")}>` */
export declare function trackForm(client: Client, event: string, properties?: Fields): () => void;
/** An error that is thrown again and again, by a render loop say, is told so often a page. */
export declare const ERRORS_MAX = 20;
/** "Error Shown" with the error's name and message; the same error object counts once. */
export declare function trackError(client: Client, error: unknown, properties?: Fields): void;
export interface TrackErrorsProps {
    children?: ReactNode;
    /** Shown in place of children that threw. */
    fallback?: ReactNode;
}
/** Around a part of the page: errors of its rendering, of the window and of promises nobody handled are told. */
export declare class TrackErrors extends Component<TrackErrorsProps, {
    broken: boolean;
}> {
    static contextType: import("react").Context<Client | undefined>;
    state: {
        broken: boolean;
    };
    static getDerivedStateFromError(): {
        broken: boolean;
    };
    componentDidMount(): void;
    componentWillUnmount(): void;
    componentDidCatch(error: unknown, { componentStack }: {
        componentStack?: string | null;
    }): void;
    render(): ReactNode;
    private readonly onError;
    private readonly onRejection;
    private tell;
}
export { Analytics };
