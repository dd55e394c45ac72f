/**
 * The command line: words to commands. Every command is loaded only when it is called, so that `flow status` starts at once.
 * stdout carries results, stderr progress, prompts and errors.
 */
import { Command, CommanderError, Option } from 'commander';
import about from '../../package.json' with { type: 'json' };
import { EXIT, type ExitCode } from '../errors.ts';
import { locate } from '../release/locate.ts';
import { ending } from './ending.ts';
import type { LockCommandOptions } from './lock.ts';
import type { InspectOptions } from './inspect.ts';
import type { ResumeOptions } from './resume.ts';
import type { SendOptions } from './send.ts';
import { terminal } from './terminal.ts';

interface Common {
  config?: string;
}
const collect = (value: string, all: string[] = []): string[] => [...all, ...value.split(',')];
const revision = (value: string): number => {
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 1)
    throw new CommanderError(
      EXIT.usage,
      'flow.revision',
      `error: --expect wants a revision, a whole number, not "${value}"`,
    );
  return number;
};
const portNumber = (value: string): number => {
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 1 || number > 65_535)
    throw new CommanderError(EXIT.usage, 'flow.port', `error: --port wants a number from 1 to 65535, not "${value}"`);
  return number;
};

const serverCount = (value: string): number => {
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 2 || number > 20)
    throw new CommanderError(
      EXIT.usage,
      'flow.servers',
      `error: --servers wants a number from 2 to 20, not "${value}"`,
    );
  return number;
};

/** Runs one command line and returns the exit status. Never throws. */
export async function run(argv: string[]): Promise<ExitCode> {
  let status: ExitCode = EXIT.ok;
  const program = new Command('flow')
    .description('Carries out a release step by step, proves each step before the next, and survives any crash.')
    .version(`flow ${about.version}`, '-V, --version', 'say which flow this is')
    .option('-c, --config <file>', 'another flow.yaml than the nearest one')
    .showSuggestionAfterError()
    .showHelpAfterError('Nothing was changed. Every command: flow --help')
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .addHelpText(
      'after',
      '\nA release, by hand:\n  flow start\n  flow send NEXT     again and again; flow says what each will do\n  flow send ROLLBACK at any time in production\n  flow inspect       watch it in a browser\n\nTo see a whole release on a sandbox: flow demo\n',
    );
  const place = async () => await locate(process.cwd(), program.opts<Common>().config);
  const sending = (command: Command): Command =>
    command
      .option('-y, --yes', 'answer the ordinary confirmation with yes')
      .option('-m, --reason <why>', 'why; kept in the history')
      .addOption(new Option('--force <guard>', 'override one guard by its id; needs --reason').argParser(collect))
      .addOption(new Option('--expect <rev>', 'refuse unless the release is at this revision').argParser(revision))
      .option('--notes <file>', 'the ChangeLog section (for the step that tags)')
      .option('--json', 'the result as one JSON document')
      .option('--wait', 'wait for whoever drives now instead of giving up');

  program
    .command('start')
    .description('plan a release')
    .option('--to <version>', 'the version to release')
    .addOption(
      new Option('--bump <part>', 'count the last tag up').choices(['patch', 'minor', 'major']).conflicts('to'),
    )
    .option('-y, --yes', 'answer the ordinary confirmation with yes')
    .option('-m, --reason <why>', 'why; kept in the history')
    .addOption(
      new Option(
        '--force <guard>',
        'override by name: badVersion (it failed before), routesDiffer (routes differ in more than servers)',
      ).argParser(collect),
    )
    .option('--json', 'the result as one JSON document')
    .option('--wait', 'wait for whoever drives now instead of giving up')
    .action(async (options) => {
      status = await (await import('./start.ts')).start(await place(), options as never);
    });
  sending(
    program
      .command('send')
      .argument('<event>', 'NEXT, ROLLBACK, ANSWER, RETEST or ABORT')
      .argument('[choice]', 'the answer, for ANSWER'),
  )
    .description('send an event to the release: it is decided, carried out and proven before this returns')
    .option('--question <id>', 'answer only this question')
    .option('--inspect', 'show the release in a browser while it is carried out')
    .addOption(new Option('--via <what>').choices(['inspector']).hideHelp())
    .action(async (event: string, choice: string | undefined, options: SendOptions) => {
      status = await (await import('./send.ts')).send(await place(), event, {
        ...options,
        ...(choice === undefined ? {} : { choice }),
      });
    });
  sending(program.command('run'))
    .description('send NEXT by itself, until the release has ended or a person has to decide')
    .option('--until <milestone>', 'stop at this milestone')
    .action(async (options: SendOptions & { until?: string }) => {
      status = await (await import('./run.ts')).runOn(await place(), options);
    });
  program
    .command('rollback')
    .argument('[version]', 'the tag to go back to, else what ran before the last release')
    .description('after a finished release: plan the way back, server by server, without the test stages')
    .option('-y, --yes', 'answer the ordinary confirmation with yes')
    .option('-m, --reason <why>', 'why; kept in the history')
    .addOption(
      new Option(
        '--force <guard>',
        'override by name: badVersion (it failed before), routesDiffer (routes differ in more than servers)',
      ).argParser(collect),
    )
    .option('--json', 'the result as one JSON document')
    .option('--wait', 'wait for whoever drives now instead of giving up')
    .action(
      async (
        version: string | undefined,
        options: { yes?: boolean; reason?: string; force?: string[]; json?: boolean },
      ) => {
        status = await (await import('./start.ts')).start(await place(), { ...options, backTo: version ?? null });
      },
    );
  program
    .command('resume')
    .description('compare what is on record with the world, and go on with an interrupted step')
    .option('-y, --yes', 'answer the ordinary confirmation with yes')
    .option('-m, --reason <why>', 'why; kept in the history')
    .addOption(new Option('--force <guard>', 'go on over differences: worldAsRecorded').argParser(collect))
    .option('--json', 'the result as one JSON document')
    .option('--wait', 'wait for whoever drives now instead of giving up')
    .action(async (options: ResumeOptions) => {
      status = await (await import('./resume.ts')).resume(await place(), options);
    });
  program
    .command('status')
    .description('where the release stands')
    .option('--json', 'the result as one JSON document')
    .option('-w, --watch', 'go on showing it')
    .action(async (options: { json?: boolean; watch?: boolean }) => {
      status = await (await import('./status.ts')).status(await place(), options);
    });
  program
    .command('why')
    .argument('[event]', 'the event, else every one that is possible')
    .description('whether an event would pass now, and why')
    .option('--json', 'the result as one JSON document')
    .action(async (event: string | undefined, options: { json?: boolean }) => {
      status = await (await import('./why.ts')).why(await place(), event, options);
    });
  program
    .command('history')
    .argument('[release]', 'a release by its id, else the newest')
    .description('who did what, when, and on what evidence')
    .option('--all', 'every release, one line each')
    .option('--json', 'the result as one JSON document')
    .action(async (id: string | undefined, options: { json?: boolean; all?: boolean }) => {
      status = (await import('./history.ts')).history(await place(), id, options);
    });
  program
    .command('inspect')
    .description('show the release in a browser: before, while and after it is carried out')
    .option('--allow-send', 'let NEXT and ROLLBACK be sent from the page')
    .option('--no-open', 'print the address, and start no browser')
    .addOption(new Option('--port <number>', 'listen there instead of on a free port').argParser(portNumber))
    .option('--json', 'the address as one JSON document')
    .addOption(new Option('--beside-send').hideHelp())
    .action(async (options: InspectOptions) => {
      status = await (await import('./inspect.ts')).inspect(await place(), options);
    });
  const lock = program.command('lock').description('who may drive the release');
  for (const what of ['show', 'take-over'] as const) {
    lock
      .command(what)
      .description(
        what === 'show'
          ? 'say who drives here, and which control machine owns the proxy'
          : 'depose a driver that does not answer any more, here or on another control machine',
      )
      .option('-y, --yes', 'answer the ordinary confirmation with yes')
      .option('--json', 'the result as one JSON document')
      .action(async (options: LockCommandOptions) => {
        status = await (await import('./lock.ts')).lock(await place(), what, options);
      });
  }
  program
    .command('doctor')
    .description('look at everything a release needs, and change nothing: hosts, repository, proxy, servers')
    .option('--json', 'the result as one JSON document')
    .action(async (options: { json?: boolean }) => {
      status = await (await import('./doctor.ts')).doctor(await place(), options);
    });
  const config = program.command('config').description('look at flow.yaml');
  for (const what of ['check', 'print', 'schema'] as const) {
    config
      .command(what)
      .description(
        {
          check: 'say whether it is right',
          print: 'print it with every default filled in',
          schema: 'print the JSON schema for editors',
        }[what],
      )
      .action(async () => {
        status = (await import('./config.ts')).config(what, program.opts<Common>().config);
      });
  }
  program
    .command('demo')
    .description('a whole release on a sandbox: real git, real Nginx, real servers, clients at work all the while')
    .option('--bad-release', 'the new version fails in production and is rolled back')
    .option('--crash', 'flow is killed in the middle of a publish, and resumes')
    .option('--fast', 'measure how long a release takes beyond what no tool could avoid')
    .addOption(new Option('--servers <number>', 'how many servers there are').argParser(serverCount))
    .addOption(new Option('--proxies <number>', 'how many proxies there are').choices(['1', '2', '3']).default('1'))
    .option('--ssh', 'the proxy, every server and a machine that publishes are each behind ssh')
    .option('--preview', 'the new version is looked at through a pre-release proxy first')
    .option('--include', 'who has the traffic stands in one file that flow writes, and not in a branch for each route')
    .option('--keep', 'leave the sandbox running, to go on by hand')
    .option('--stop <folder>', 'stop and remove a sandbox that was kept')
    .action(
      async (options: {
        badRelease?: boolean;
        crash?: boolean;
        fast?: boolean;
        keep?: boolean;
        stop?: string;
        servers?: number;
        proxies: string;
        ssh?: boolean;
        preview?: boolean;
        include?: boolean;
      }) => {
        const { runDemo, runDemoStop } = await import('./demo.ts');
        if (options.stop !== undefined) {
          await runDemoStop(options.stop);
          return;
        }
        const { badRelease = false, crash = false, fast = false, keep = false, servers = 2 } = options;
        const { ssh = false, preview = false, include = false } = options;
        status = await runDemo({
          flow: process.argv[1] ?? '',
          badRelease,
          crash,
          fast,
          keep,
          servers,
          proxies: Number(options.proxies),
          ssh,
          preview,
          include,
          out: process.stdout,
          colour: terminal().outColour,
        });
      },
    );

  try {
    await program.parseAsync(argv, { from: 'user' });
    return status;
  } catch (error) {
    // Commander has printed its own message by then; help and version are no errors.
    if (error instanceof CommanderError) {
      if (error.code.startsWith('flow.')) process.stderr.write(`${error.message}\n`);
      return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    }
    return ending(error);
  }
}
