/**
 * The script that the snippet loads. It takes the place of the array under `window.analytics` (or the name that the
 * script's `data-global-segment-analytics-key` gives), loads with the key that the snippet or the script's own address
 * names, and makes the calls that were queued. Where no key is known it waits for `load`.
 */
export {};
