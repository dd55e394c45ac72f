import { expect, test } from 'vitest';
import { configRepositoryRows } from './config-repository.rows.ts';
import { includeRows } from './include.rows.ts';
import { gitRows } from './git.rows.ts';
import { nginxRows } from './nginx.rows.ts';
import { personRows } from './person.rows.ts';
import { publishRows } from './publish.rows.ts';
import { soakRows } from './soak.rows.ts';
import { failuresPage } from './table.ts';
import { worldMovedRows } from './world-moved.rows.ts';

test('docs/failures.md says what the tests hold', async () => {
  const page = failuresPage([
    ['A publish', publishRows],
    ['The soak', soakRows],
    ['Nginx', nginxRows],
    ['The config repository', configRepositoryRows],
    ['Routes in one file (nginx.include)', includeRows],
    ['Git', gitRows],
    ['The person', personRows],
    ['The world moved', worldMovedRows],
  ]);
  await expect(page).toMatchFileSnapshot('../../docs/failures.md');
});
