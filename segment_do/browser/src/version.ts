/** The version of the package; the build puts it in from segment_do/version.py, its one place. */

declare const __VERSION__: string;

export const VERSION: string = __VERSION__;
