/** The version of the package; the build puts it in from segment_do/version.py, its one place. */
export declare const VERSION: string;
