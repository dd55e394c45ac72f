/** What `flow doctor` says of what it found. */
import { expect, test } from 'vitest';
import { doctorText } from '../../src/views/doctor.ts';
import { paintFor } from '../../src/views/text.ts';

const plain = paintFor(false, true);
type Findings = Parameters<typeof doctorText>[0]['findings'];
const server = (about: string, verdict: 'ok' | 'bad' = 'ok'): Findings => [
  { about, what: 'version', verdict: 'ok', because: 'v1.3.7' },
  { about, what: 'health', verdict, because: '200', ...(verdict === 'ok' ? {} : { mend: `curl -i http://${about}/` }) },
];
const text = (findings: Findings) => doctorText({ project: 'shop', config: '/shop/flow.yaml', findings }, plain);

test('says what stands in the way, and what mends it', () => {
  const said = text([...server('app1'), ...server('app2', 'bad')]);
  expect(said).toContain('  ✖  health   200\n              mend  curl -i http://app2/');
  expect(said.split('\n').at(-1)).toBe(
    '✖ 1 of 4 looks stands in the way of a release: app2 health. Nothing was changed. Mend that, then: flow doctor',
  );
});

test('says what to run next where nothing stands in the way', () => {
  const told = { about: 'app1', what: 'log', verdict: 'told', because: 'it did not grow' } as const;
  expect(
    text([...server('app1'), told])
      .split('\n')
      .at(-1),
  ).toBe('✔ 3 looks, nothing in the way of a release. 1 worth knowing (!). Plan one: flow start');
});

test('folds the servers of a fleet that are well, and shows the one that is not', () => {
  const names = Array.from({ length: 200 }, (_, index) => `app${index + 1}`);
  const said = text(names.flatMap((name) => server(name, name === 'app77' ? 'bad' : 'ok')));
  expect(said.split('\n').length).toBeLessThan(15);
  expect(said).toContain('199 servers: app1 … app200\n  ✔  version, health');
  expect(said).toContain('\napp77\n');
});

test('shows what a server says as characters, never as what a terminal obeys', () => {
  expect(text([{ about: 'app1', what: 'version', verdict: 'bad', because: '\u001b[2Jv1' }])).not.toContain('\u001b');
});
