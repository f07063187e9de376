/** What the page says about itself, as analytics.js reads it. A canonical link gives url and path their stable form. */
export interface PageFacts {
    path: string;
    referrer: string;
    search: string;
    title: string;
    url: string;
}
export declare function pageFacts(): PageFacts;
/** Facts that the snippet took down when a call was queued: it marks them, and spells them with one letter each. */
export declare function queuedFacts(last: unknown): PageFacts | undefined;
