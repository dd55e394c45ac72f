import { describe, expect, test } from 'vitest';
import { redactor } from '../../src/release/secrets.ts';

const config = { secrets: ['DEPLOY_TOKEN', 'SHORT', 'UNSET'], notify: [{ webhook: { env: 'HOOK' } }] };
const env = {
  DEPLOY_TOKEN: 's3cr3t-token',
  HOOK: 'https://hooks.example/s3cr3t-token/x',
  SHORT: 'no',
  OTHER: 'public',
};

describe('secrets', () => {
  test('are named instead of shown, however deep they stand, and the longest goes first', () => {
    const seen = {
      note: 'login with s3cr3t-token',
      deep: [{ url: 'to https://hooks.example/s3cr3t-token/x now' }],
      at: 3,
    };
    expect(redactor(config, env)(seen)).toEqual({
      note: 'login with [DEPLOY_TOKEN]',
      deep: [{ url: 'to [HOOK] now' }],
      at: 3,
    });
  });

  test('are only what flow.yaml names, and long enough to be one', () => {
    expect(redactor(config, env)('no public word')).toBe('no public word');
  });

  test('leave every value as it is where there are none', () => {
    const seen = { a: [1, null, 'x'] };
    expect(redactor({ secrets: [], notify: [] }, env)(seen)).toBe(seen);
  });
});
