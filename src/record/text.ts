/**
 * What texts and member names of a record may hold (`docs/formats/records.md`), so that two that differ also look different: NFC,
 * no bidirectional and no control characters. Most are plain ASCII, for which one scan is enough.
 */
const PLAIN = /^[\n\t\x20-\x7e]*$/;
const PLAIN_NAME = /^[\x20-\x7e]*$/;
// Bidirectional controls, and control characters but LF and TAB.
// oxlint-disable-next-line no-control-regex
const HOSTILE = /[\u0000-\u0008\u000B-\u001F\u007F-\u009F\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]/;
const CONTROL = /\p{Cc}/u;
const IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_]*$/;

const isNfc = (text: string): boolean => text.normalize("NFC") === text;

/** Free text: NFC without bidirectional and control characters but LF and TAB. */
export const isText = (text: string): boolean => PLAIN.test(text) || (!HOSTILE.test(text) && isNfc(text));
/** A member name of free JSON: NFC without control characters. */
export const isFreeName = (name: string): boolean => PLAIN_NAME.test(name) || (!CONTROL.test(name) && isNfc(name));
/** A member name anywhere else. */
export const isIdentifier = (name: string): boolean => IDENTIFIER.test(name);
