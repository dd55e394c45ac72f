/** The control of the power-cut model: the same commits through lowdb's own adapter. Reports each one once `write` has returned. */
import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { JSONFileSyncPreset } from 'lowdb/node';

const dir = process.argv[2] ?? '';
const db = JSONFileSyncPreset(join(dir, 'state.json'), { count: 0, ballast: '' });
for (;;) {
  const count = db.data.count + 1;
  db.data = { count, ballast: 'x'.repeat((count * 997) % 20_000) };
  db.write();
  writeSync(1, `${count}\n`);
}
