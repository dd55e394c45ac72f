/** What `flow doctor` found, as text: what stands in the way first counted, then each thing with what was looked at. */
import { listText, type Paint, plainLine, table } from './text.ts';

/** A finding, as src/release/doctor gives it. */
interface Found {
  about: string;
  what: string;
  verdict: 'ok' | 'told' | 'bad';
  because: string;
  mend?: string;
}

/** The whole text, without a line end at its end. Things that are all well fold to one line. */
export function doctorText(
  { project, config, findings }: { project: string; config: string; findings: readonly Found[] },
  paint: Paint,
): string {
  const abouts = [...new Set(findings.map(({ about }) => about))];
  const lines = [`${plainLine(project)}, as ${plainLine(config)} has it`];
  const sameServers = foldable(findings);
  for (const about of abouts) {
    const own = findings.filter((finding) => finding.about === about);
    if (sameServers.includes(about)) {
      if (about !== sameServers[0]) continue;
      const whats = own.map(({ what }) => what).join(', ');
      const all = `${sameServers.length} servers: ${plainLine(sameServers[0])} … ${plainLine(sameServers.at(-1) ?? '')}`;
      lines.push(
        '',
        paint.bold(all),
        ...table([[{ text: paint.icons.ok, paint: paint.green }, plainLine(whats)]], '  '),
      );
      continue;
    }
    lines.push(
      '',
      paint.bold(plainLine(about)),
      ...table(
        own.flatMap((finding) => rowsOf(finding, paint)),
        '  ',
      ),
    );
  }
  const bad = findings.filter(({ verdict }) => verdict === 'bad');
  const told = findings.filter(({ verdict }) => verdict === 'told').length;
  const worth = told === 0 ? '' : ` ${told} worth knowing (!).`;
  lines.push(
    '',
    bad.length === 0
      ? `${paint.green(paint.icons.ok)} ${findings.length} looks, nothing in the way of a release.${worth} Plan one: flow start`
      : `${paint.red(paint.icons.bad)} ${bad.length} of ${findings.length} looks ${bad.length === 1 ? 'stands' : 'stand'} in the way of a release: ${listText([...new Set(bad.map(({ about, what }) => plainLine(`${about} ${what}`)))])}.${worth} Nothing was changed. Mend that, then: flow doctor`,
  );
  return paint.finish(lines.join('\n'));
}

function rowsOf({ what, verdict, because, mend }: Found, paint: Paint): Parameters<typeof table>[0][number][] {
  const sign =
    verdict === 'ok'
      ? { text: paint.icons.ok, paint: paint.green }
      : verdict === 'bad'
        ? { text: paint.icons.bad, paint: paint.red }
        : { text: '!', paint: paint.yellow };
  return [
    [sign, plainLine(what), plainLine(because)],
    ...(mend === undefined ? [] : [['', '', `${paint.dim('mend')}  ${plainLine(mend)}`]]),
  ];
}

const UNFOLDED = 4;

/** Of a fleet, the servers of which there is nothing to say but that all is well; empty where they are few. */
function foldable(findings: readonly Found[]): string[] {
  const well = new Map<string, string[]>();
  for (const about of new Set(findings.map((finding) => finding.about))) {
    const own = findings.filter((finding) => finding.about === about);
    if (own.some(({ verdict }) => verdict !== 'ok')) continue;
    const whats = own.map(({ what }) => what).join();
    well.set(whats, [...(well.get(whats) ?? []), about]);
  }
  const [most = []] = [...well.values()].toSorted((a, b) => b.length - a.length);
  return most.length > UNFOLDED ? most : [];
}
