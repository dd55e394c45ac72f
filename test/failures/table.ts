/** docs/failures.md, from the rows that the tests hold against the world. */
import type { FailureRows } from './failure.ts';

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

/** The page: one table for each group. */
export function failuresPage(groups: readonly (readonly [heading: string, rows: FailureRows])[]): string {
  const tables = groups.map(([heading, rows]) => {
    const lines = Object.values(rows).map(
      ({ situation, does, sees, run, exit, rests }) =>
        `| ${cell(situation)} | ${cell(does)} | ${rests === null ? 'no release' : `\`${rests}\``}, ${exit} | ${cell(sees)} | \`${cell(run)}\` |`,
    );
    return `## ${heading}\n\n| situation | what flow does | rests at, exit status | what you see | what you run next |\n|---|---|---|---|---|\n${lines.join('\n')}\n`;
  });
  return `# When things go wrong

Every row is a test on a real sandbox (real git, real Nginx, real servers, clients at work): \`test/failures/\`, all of them run by
\`npm run failures\`, most by \`npm test\`. The texts are those that are printed. The page is written from the rows: \`npx vitest run test/failures/table.test.ts -u\`.

Traffic is never on a server that failed. Where a row does not say otherwise, no client sees an error.

${tables.join('\n')}`;
}
