/**
 * Cookies, spelled as analytics.js spells them, so that either library reads what the other wrote.
 *
 * Its cookies keep the characters that RFC 6265 allows and percent-encode the rest; the domain is the highest one that
 * takes a cookie, so that all subdomains share it. Never throws: where cookies are blocked, nothing is found.
 */
export interface CookieOptions {
    domain?: string | undefined;
    /** Days; default 365. */
    maxage?: number | undefined;
    /** Default `/`. */
    path?: string | undefined;
    /** Default `Lax`. */
    sameSite?: string | undefined;
    secure?: boolean | undefined;
}
export declare function readCookie(name: string): string | undefined;
/** Write a cookie; `null` removes it. */
export declare function writeCookie(name: string, value: string | null, options: CookieOptions): void;
