/** A release frame by frame, from its record alone. */
import { describe, expect, test } from 'vitest';
import { chartOf } from '../../src/inspector/chart.ts';
import { lineOf, recordingOf } from '../../src/inspector/recording.ts';
import type { ReleaseDocument } from '../../src/store/document.ts';
import { Play } from '../machines/documents.ts';

const record = (document: ReleaseDocument) => recordingOf(document, chartOf(document.snapshot.context.topology));

describe('a recording', () => {
  test('tells of each frame only the servers that stand otherwise', () => {
    const { frames } = record(new Play().until('app1Published').document);
    const changes = frames.flatMap(({ state, servers }) =>
      servers.map(({ name, traffic, says }) => `${state}: ${name} ${traffic} ${says}`),
    );
    expect(changes).toEqual([
      'planned: app1 inRotation v1.3.7',
      'planned: app2 inRotation v1.3.7',
      'drainingApp1: app1 mayBeInRotation v1.3.7',
      'app1Drained: app1 drained v1.3.7',
      'publishingApp1: app1 drained unknown (v1.3.7 or v1.3.8)',
      'app1Published: app1 drained v1.3.8',
    ]);
  });

  test('says of a record from before servers were kept in it that nothing is known of them', () => {
    const { document } = new Play().until('app1Drained');
    const history = document.history.map(({ stood: _, ...entry }) => entry);
    const { frames } = record({ ...document, history });
    expect(frames.every(({ servers }) => servers.length === 0)).toBe(true);
    expect(frames.at(-1)?.state).toBe('app1Drained');
  });

  test('names who sent what, why, and which guards were overridden', () => {
    const play = new Play().until('tested');
    play.send({ type: 'ABORT', reason: 'wrong version' });
    const last = record(play.document).frames.at(-1);
    expect([last?.by, last?.event, last?.reason, last?.forced]).toEqual([
      'li@bastion, command line',
      'ABORT',
      'wrong version',
      [],
    ]);
    expect(lineOf(play.document)).toMatchObject({ id: 'r-0001', version: 'v1.3.8', state: 'aborting' });
  });
});
