/**
 * Tells a webhook where the release has come to rest. A notification is a courtesy: one that cannot be delivered is said, and
 * never holds the release up. The address comes from the environment, so that it is in no file and no record.
 */
import type { Config } from '../config/schema.ts';
import { messageOf } from '../errors.ts';
import type { HistoryEntry, ReleaseDocument } from '../store/document.ts';

const PATIENCE_MS = 5_000;

/** Posts one commit to every configured webhook. Resolves with what went wrong, one line each; never rejects. */
export async function notify(
  webhooks: Config['notify'],
  document: ReleaseDocument,
  entry: HistoryEntry,
): Promise<string[]> {
  const { context } = document.snapshot;
  const body = JSON.stringify({
    project: document.project,
    release: document.id,
    version: context.version,
    state: entry.to,
    event: entry.event,
    by: entry.by?.user ?? null,
    note: entry.note,
    question: context.question?.text ?? null,
    ended: document.endedAt,
  });
  const problems = await Promise.all(
    webhooks.map(async ({ webhook }) => {
      const url = process.env[webhook.env];
      if (url === undefined || url === '') return `the webhook in ${webhook.env} is not set, so nobody was notified`;
      try {
        const response = await fetch(url, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body,
          signal: AbortSignal.timeout(PATIENCE_MS),
        });
        await response.body?.cancel();
        return response.ok ? null : `the webhook in ${webhook.env} answered ${response.status}`;
      } catch (error) {
        return `the webhook in ${webhook.env} could not be reached: ${messageOf(error)}`;
      }
    }),
  );
  return problems.filter((problem) => problem !== null);
}
