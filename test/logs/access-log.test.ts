import { describe, expect, it } from 'vitest';
import { ANSWERED, ANSWERED_5XX } from '../../src/logs/access-log.ts';

const COMBINED = (status: number, agent = 'curl/8') =>
  `10.0.0.7 - - [01/May/2024:10:00:00 +0200] "GET /pay HTTP/1.1" ${status} 12 "-" "${agent}"`;

describe('a line of the access log', () => {
  it('tells the status in the usual format, in one of its own, and in JSON', () => {
    for (const line of [
      COMBINED(502),
      '2024-05-01T10:00:00+02:00 10.0.0.7 "GET / HTTP/1.1" 503 0 0.001 upstream=- status=-',
      '{"request":"GET / HTTP/1.1","status":504,"time":0.1}',
      '{"status": "500"}',
      '10.0.0.7 "GET / HTTP/1.1" 500',
    ]) {
      expect(ANSWERED.test(line), line).toBe(true);
      expect(ANSWERED_5XX.test(line), line).toBe(true);
    }
  });

  it('is judged by the status of the answer alone', () => {
    for (const line of [
      COMBINED(200),
      COMBINED(404),
      `${COMBINED(200)} 503 500`,
      '2024-05-01T10:00:00+02:00 10.0.0.7 "GET / HTTP/1.1" 200 500 0.1 upstream=a:1, b:1 status=502, 200',
      '{"status":200,"bytes":500,"upstream_status":"502"}',
    ]) {
      expect(ANSWERED.test(line), line).toBe(true);
      expect(ANSWERED_5XX.test(line), line).toBe(false);
    }
  });

  it('can not be given another status by a client', () => {
    const escaped = String.raw`x\x22 500 \x22`;
    expect(ANSWERED_5XX.test(COMBINED(200, '" 500 '))).toBe(false);
    expect(ANSWERED_5XX.test(COMBINED(200, escaped))).toBe(false);
    expect(ANSWERED_5XX.test(String.raw`{"status":200,"agent":"\" 500 \"status\":500"}`)).toBe(false);
  });

  it('is no answer when it names no status', () => {
    for (const line of ['', '10.0.0.7 GET / 500', '{"request":"GET /"}']) expect(ANSWERED.test(line), line).toBe(false);
  });
});
