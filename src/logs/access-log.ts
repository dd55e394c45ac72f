/**
 * What Nginx answered, as its access log tells it. Understood are the formats that have the status right after the quoted request
 * (`combined`, and most of one's own), and JSON with a field `status`. Nginx escapes quotes in everything a client sends, so
 * that no client can write a status of its own choice: the first status of a line is the one Nginx wrote.
 */

const plainLine = (status: string): string => `^(?!\\{)(?:(?!" [1-5]\\d\\d(?:\\s|$)).)*" ${status}(?:\\s|$)`;
const jsonLine = (status: string): string => `^\\{.*"status"\\s*:\\s*"?${status}\\b`;
const withStatus = (status: string): RegExp => new RegExp(`${plainLine(status)}|${jsonLine(status)}`);

/** A line that tells how one request was answered. */
export const ANSWERED = withStatus('[1-5]\\d\\d');

/** Such a line with a 5xx status: the request failed in the server, or there was no server to answer it. */
export const ANSWERED_5XX = withStatus('5\\d\\d');
