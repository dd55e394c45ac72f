/** What can go wrong where who has the traffic stands in one file that flow writes (nginx.include). */
import { atStart, atTagged, BOTH } from './config-repository.rows.ts';
import type { FailureRows } from './failure.ts';

export const beforeStart = {
  includeUnused: {
    ...atStart,
    situation: 'no upstream block includes the file that `nginx.include` names',
    does: 'refuses to start: what flow would write there would change nothing',
    sees: 'no upstream block in /opt/nginx includes conf/quickpay.servers, so what stands there changes nothing. Write "include /opt/nginx/conf/quickpay.servers;" into the upstream block',
  },
  includeAndLines: {
    ...atStart,
    situation: 'the upstream block includes the file, and names a server by itself as well',
    does: 'refuses to start: that server could not be taken out of rotation',
    sees: '/opt/nginx/conf/upstream.conf names app2 in an upstream block as well, where flow could not take it out',
  },
  includeMissing: {
    ...atStart,
    situation: 'the file that `nginx.include` names does not exist',
    does: 'refuses to start, and says what to put into it',
    sees: '/opt/nginx has no file conf/quickpay.servers in its last commit, which flow.yaml names under nginx.include. Put this into it: server 127.0.0.1:',
  },
  includeForeign: {
    ...atStart,
    situation: 'the file names a server that flow.yaml does not know',
    does: 'refuses to start: it would be taken out of rotation for good by the first switch',
    sees: '/opt/nginx/conf/quickpay.servers sends traffic to 10.0.0.9:8080, which flow.yaml does not name',
  },
  includeWrittenByHand: {
    ...atStart,
    situation: 'somebody has given a server in the file a weight that flow.yaml does not know',
    does: 'refuses to start: the first switch would take it away; can be overridden, which is recorded',
    sees: '/opt/nginx/conf/quickpay.servers says something else of app1 and app2 than nginx.include in flow.yaml',
    run: 'flow start --force=routesDiffer',
  },
} as const satisfies FailureRows;

export const beforeTheFirstSwitch = {
  includeEdited: {
    ...atTagged,
    situation: 'the file is edited in mid-release, and not committed',
    does: 'refuses NEXT: what a person wrote is not overwritten',
    sees: '/opt/nginx is not clean: conf/quickpay.servers is changed and not committed',
  },
  includeSwitchedByHand: {
    ...atTagged,
    situation: 'somebody takes a server out by hand in mid-release: edits the file, and commits it',
    does: 'refuses NEXT, and says what the files say now',
    sees: 'the proxy should serve app1 and app2, but its configuration is that of app2',
    run: 'flow resume',
  },
} as const satisfies FailureRows;

export const inMidRelease = {
  includeRefused: {
    situation: 'Nginx refuses the configuration with the file that flow has written',
    does: 'goes back to the commit before, which the next start of Nginx would load; no commit stays',
    sees: 'Nginx refuses the configuration of the route to app2 (conf/quickpay.servers): sbin/nginx -t',
    run: 'flow send NEXT',
    exit: 6,
    rests: 'tagged',
    serving: ['app1', 'app2'],
    versions: BOTH,
    thorough: true,
  },
  includeKilled: {
    situation: 'flow is killed after it has committed the file and before Nginx is told',
    does: 'reloads and proves the route when it is resumed; nothing is committed twice',
    sees: 'app2 live after',
    run: 'flow send NEXT',
    exit: 0,
    rests: 'app1Drained',
    serving: ['app2'],
    versions: BOTH,
  },
} as const satisfies FailureRows;

export const includeRows = { ...beforeStart, ...beforeTheFirstSwitch, ...inMidRelease };
