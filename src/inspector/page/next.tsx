/** What can be sent now: what NEXT would run or what stands in its way, the question that is open, and the way back. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { ReleaseStatus } from '../../views/status.ts';
import type { NextPicture, SendAnswer, SendRequest } from '../wire.ts';
import { moment } from './words.ts';

export interface NextProps {
  release: ReleaseStatus;
  next: NextPicture | null;
  /** Null where the page may only show. */
  send: ((request: SendRequest) => Promise<SendAnswer>) | null;
}

type Sendable = SendRequest['event'];

export function Next({ release, next, send }: NextProps) {
  const [asked, setAsked] = useState<{ event: Sendable; rev: number } | null>(null);
  const [answer, setAnswer] = useState<SendAnswer | null>(null);
  useEffect(() => setAnswer(null), [release.rev]);
  const isKnown = next !== null && next.rev === release.rev;
  const next_ = isKnown ? next.events.find(({ event }) => event === 'NEXT') : undefined;
  const back = isKnown ? next.events.find(({ event }) => event === 'ROLLBACK') : undefined;
  const ask = (event: Sendable): void => setAsked({ event, rev: release.rev });
  return (
    <div class="next">
      {release.question === null ? null : (
        <section class="question">
          <p>{release.question.text}</p>
          <Commands commands={release.question.commands} />
        </section>
      )}
      {release.unwatched === null ? null : (
        <Commands
          commands={release.commands.filter(({ command }) => back === undefined || !command.includes('ROLLBACK'))}
        />
      )}
      {release.rollback === null ? null : <WayBack release={release} rollback={release.rollback} />}
      {release.failure === null ||
      release.phase === 'ended' ||
      release.failure.message === release.rollback?.because ? null : (
        <div class="went-wrong" tabIndex={0} role="group" aria-label="What went wrong">
          <Failure message={release.failure.message} />
        </div>
      )}
      {next_ === undefined ? null : (
        <section class={next_.passes ? 'passes' : 'blocked'}>
          <h3>
            {next_.passes ? '✔ NEXT passes' : '✖ NEXT is blocked'}
            {next_.does === null || !next_.passes ? '' : `: ${next_.does}`}
          </h3>
          {next_.does === null || next_.passes ? null : <p class="would">It would {next_.does}.</p>}
          <Way event="NEXT" passes={next_.passes} send={send} ask={ask} />
          <ul class="verdicts">
            {[...next_.verdicts]
              .sort((a, b) => Number(a.ok) - Number(b.ok))
              .map(({ id, ok, because, unblock, opensAt }) => (
                <li key={id} class={ok ? 'ok' : 'no'}>
                  <span aria-hidden="true">{ok ? '✔' : '✖'}</span> <b>{id}</b> {because}
                  {ok || unblock === undefined ? null : <small>To unblock: {unblock}</small>}
                  {ok || opensAt === undefined ? null : <small>It opens by itself at {moment(opensAt)}</small>}
                </li>
              ))}
          </ul>
          {next_.passes ? <Plan steps={next?.plan.NEXT ?? []} /> : null}
        </section>
      )}
      {release.phase === 'working' ? (
        <p class="at-work">
          {release.unwatched === null
            ? `${release.state} is at work. NEXT waits until it rests.`
            : `${release.state} was interrupted, and nobody goes on with it.`}
        </p>
      ) : null}
      {next_ === undefined && back === undefined && release.question === null && release.unwatched === null ? (
        <Commands commands={release.commands} />
      ) : null}
      {answer === null ? null : (
        <pre class={`answer ${answer.accepted ? 'ok' : 'no'}`} role="alert">
          {answer.said}
        </pre>
      )}
      {back === undefined ? null : (
        <section class="back">
          <div class="head">
            <h3>ROLLBACK</h3>
            <Way event="ROLLBACK" passes={back.passes} send={send} ask={ask} />
          </div>
          {back.does === null ? null : (
            <p class="does" tabIndex={0}>
              {back.does}
            </p>
          )}
        </section>
      )}
      {asked === null || send === null ? null : (
        <Confirm
          event={asked.event}
          rev={asked.rev}
          does={(asked.event === 'NEXT' ? next_?.does : back?.does) ?? null}
          steps={next?.plan[asked.event] ?? []}
          send={send}
          done={(said) => {
            setAsked(null);
            setAnswer(said);
          }}
        />
      )}
    </div>
  );
}

/** What failed in a line of its own, then how the world stands and what to do. */
function Failure({ message }: { message: string }) {
  const [first, rest] = firstSentence(message);
  return (
    <>
      <p>
        <b>✖ {first}</b>
      </p>
      {rest === '' ? null : <p class="more">{rest}</p>}
    </>
  );
}
const firstSentence = (text: string): [string, string] => {
  const end = text.search(/\. (?=\S)/);
  return end === -1 ? [text, ''] : [text.slice(0, end + 1), text.slice(end + 2)];
};

/** Why it goes back, or went, and what is left of it. */
function WayBack({
  release: { phase, bad, failure },
  rollback,
}: {
  release: ReleaseStatus;
  rollback: NonNullable<ReleaseStatus['rollback']>;
}) {
  const { because, moved, stillToDo } = rollback;
  return (
    <section class="way-back">
      <h3>{phase === 'ended' ? 'It was rolled back' : 'It is being rolled back'}</h3>
      <p>{because}</p>
      {phase !== 'ended' || failure === null || failure.message === because ? null : (
        <p>✖ {firstSentence(failure.message)[0]}</p>
      )}
      {phase === 'ended' ? null : (
        <p>
          <b>{moved ? '✔ the traffic has moved back' : '✖ the traffic has not moved back yet'}</b>
        </p>
      )}
      {stillToDo.length === 0 ? null : <p>Still to do: {stillToDo.join(', then ')}</p>}
      {bad === null ? null : (
        <p>
          <b>{bad.version} is marked bad</b>: {bad.because}
        </p>
      )}
    </section>
  );
}

function Way({
  event,
  passes,
  send,
  ask,
}: {
  event: Sendable;
  passes: boolean;
  send: NextProps['send'];
  ask: (event: Sendable) => void;
}) {
  if (send === null) return <Copy command={`flow send ${event}`} />;
  return (
    <button type="button" class={`act ${event.toLowerCase()}`} disabled={!passes} onClick={() => ask(event)}>
      {event} …
    </button>
  );
}

function Plan({ steps }: { steps: { on: string; command: string; does: string }[] }) {
  if (steps.length === 0) return null;
  return (
    <ol class="plan">
      {steps.map(({ on, command, does }, index) => (
        <li key={index}>
          <code>
            {on}: {command}
          </code>
          <small>{does}</small>
        </li>
      ))}
    </ol>
  );
}

function Commands({ commands }: { commands: { command: string; does: string }[] }) {
  return (
    <ul class="commands">
      {commands.map(({ command, does }) => (
        <li key={command}>
          <Copy command={command} /> <small>{does}</small>
        </li>
      ))}
    </ul>
  );
}

function Copy({ command }: { command: string }) {
  const [isCopied, setCopied] = useState(false);
  useEffect(() => {
    if (!isCopied) return;
    const timer = setTimeout(() => setCopied(false), 1_500);
    return () => clearTimeout(timer);
  }, [isCopied]);
  return (
    <button
      type="button"
      class="copy"
      title="Copy"
      onClick={() => {
        void navigator.clipboard.writeText(command).then(() => setCopied(true));
      }}
    >
      <code>{command}</code> <span class="hint">{isCopied ? 'copied' : 'copy'}</span>
    </button>
  );
}

interface ConfirmProps {
  event: Sendable;
  rev: number;
  does: string | null;
  steps: { on: string; command: string; does: string }[];
  send: (request: SendRequest) => Promise<SendAnswer>;
  done: (answer: SendAnswer | null) => void;
}

function Confirm({ event, rev, does, steps, send, done }: ConfirmProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [reason, setReason] = useState('');
  const [isSending, setSending] = useState(false);
  useEffect(() => dialog.current?.showModal(), []);
  const go = (): void => {
    setSending(true);
    send({ event, expect: rev, reason: reason.trim() === '' ? null : reason.trim() }).then(done, (error: unknown) => {
      done({ accepted: false, said: `It was not sent: ${String(error)}. Where the release stands: flow status` });
    });
  };
  return (
    <dialog ref={dialog} onClose={() => done(null)} aria-labelledby="confirm-title">
      <h2 id="confirm-title">
        Send {event} at revision {rev}?
      </h2>
      {does === null ? null : <p>{does}</p>}
      <Plan steps={steps} />
      <label>
        Why (kept in the history)
        <input value={reason} maxLength={500} onInput={(change) => setReason(change.currentTarget.value)} />
      </label>
      <p class="buttons">
        <button type="button" onClick={() => dialog.current?.close()}>
          Leave it
        </button>
        <button type="button" class={`act ${event.toLowerCase()}`} disabled={isSending} onClick={go}>
          {isSending ? 'Sending …' : `Send ${event}`}
        </button>
      </p>
    </dialog>
  );
}
