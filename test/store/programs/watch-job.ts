/** Starts the job given as JSON and watches it, saying so once it runs. */
import { ensureJob, type Job } from '../../../src/hosts/jobs.ts';
import { localHost } from '../../../src/hosts/local.ts';

await ensureJob(localHost(), JSON.parse(process.argv[2] ?? '') as Job, {
  onOutput: () => undefined,
  onState: () => console.log('running'),
});
