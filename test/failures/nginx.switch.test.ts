/** Switches that Nginx refuses or does not carry out: files, workers and traffic are as before. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { afterEach, expect } from 'vitest';
import { freePorts } from '../../src/sandbox/ports.ts';
import { git, type Stage } from '../scenarios/stage.ts';
import { failures } from './failure.ts';
import { switchRows } from './nginx.rows.ts';
import { commitOn, dropCommit, expectFlow, inNginx, nginx, proxyOf, toTagged, unmoved, walkTo } from './nginx.steps.ts';

const RELOAD = 'logs/reload.sh';

let holder: Server | undefined;
afterEach(() => {
  holder?.close();
  holder = undefined;
});

/** The next commands work: app1 goes live on its own branch. */
async function goesLive(on: Stage): Promise<void> {
  await expectFlow(on, 0, 'app1Live', 'send', 'NEXT', '--yes');
  expect(await proxyOf(on)).toMatchObject({ branch: 'yun-app1', dirty: '' });
}

failures('Nginx, at a switch', switchRows, {
  testRed: {
    async trouble(on) {
      await toTagged(on);
      // A slip in a server line, which the comparison of the branches lets pass.
      await commitOn(on, ['yun-app2'], 'conf/upstream.conf', (text) => text.replace(/(server \S+);/, '$1 weigth=2;'));
      const ended = await unmoved(on, 'send', 'NEXT', '--yes');
      expect(ended.err).toContain('invalid parameter "weigth=2"');
      return ended;
    },
    async mended(on) {
      dropCommit(on, 'yun-app2');
      await expectFlow(on, 0, 'app1Drained', 'send', 'NEXT', '--yes');
    },
  },
  portTaken: {
    alsoOverSsh: true,
    async trouble(on) {
      await walkTo(on, 'app1Published');
      const [taken = 0] = await freePorts(1);
      holder = createServer().listen(taken, '127.0.0.1');
      await once(holder, 'listening');
      await commitOn(on, ['yun-app1'], 'conf/nginx.conf', (text) =>
        text.replace('    server {', `    server { listen 127.0.0.1:${taken}; }\n    server {`),
      );
      return await unmoved(on, 'send', 'NEXT', '--yes');
    },
    async mended(on) {
      holder?.close();
      await goesLive(on);
    },
  },
  zoneRekeyed: {
    async trouble(on) {
      git(on.sandbox.nginxDir, 'switch', '--quiet', '--detach');
      await commitOn(on, ['master', 'yun-app1', 'yun-app2'], 'conf/nginx.conf', (text) =>
        text
          .replace('    server {', '    limit_req_zone $binary_remote_addr zone=pay:1m rate=10000r/s;\n    server {')
          .replace('        location / {', '        location / {\n            limit_req zone=pay burst=1000 nodelay;'),
      );
      git(on.sandbox.nginxDir, 'switch', '--quiet', 'master');
      nginx(on, '-s', 'reload');
      await walkTo(on, 'app1Published');
      await commitOn(on, ['yun-app1'], 'conf/nginx.conf', (text) =>
        text.replace('limit_req_zone $binary_remote_addr', 'limit_req_zone $server_name'),
      );
      return await unmoved(on, 'send', 'NEXT', '--yes');
    },
    async mended(on) {
      dropCommit(on, 'yun-app1');
      await goesLive(on);
    },
  },
  notPermitted: {
    stage: { config: { nginx: { reload: ['sh', RELOAD] } } },
    async trouble(on) {
      // As a user who may not signal the master: the kernel itself refuses.
      const reload = 'exec setpriv --reuid=65534 --clear-groups kill -HUP "$(cat logs/nginx.pid)"\n';
      await writeFile(inNginx(on, RELOAD), reload);
      await toTagged(on);
      return await unmoved(on, 'send', 'NEXT', '--yes');
    },
    async mended(on) {
      await writeFile(inNginx(on, RELOAD), 'exec sbin/nginx -s reload\n');
      await expectFlow(on, 0, 'app1Drained', 'send', 'NEXT', '--yes');
    },
  },
});
