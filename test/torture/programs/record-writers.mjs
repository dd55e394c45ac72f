/**
 * Loaded before flow (`node --import`), in the tests only: keeps a record of who commits, outside of the state folder. Nothing in
 * flow knows of it.
 *
 * FLOW_TEST_WRITERS: the record, a line for each commit: the process, the release and its generation.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const record = process.env.FLOW_TEST_WRITERS ?? '';
const { renameSync, readFileSync, appendFileSync } = fs;

fs.renameSync = (from, to) => {
  const [, release] = /releases\/(r-\d+)\/state\.json$/.exec(String(to)) ?? [];
  const generation = release === undefined ? '' : /"gen":(\d+)/.exec(readFileSync(from, 'latin1').slice(0, 200))?.[1];
  renameSync(from, to);
  if (release !== undefined) appendFileSync(record, `${process.pid} ${release} ${generation}\n`);
};
syncBuiltinESMExports();
