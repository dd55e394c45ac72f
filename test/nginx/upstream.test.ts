import { describe, expect, it } from 'vitest';
import { besidesServerLines, upstreamAddresses } from '../../src/nginx/upstream.ts';

describe('upstream addresses', () => {
  it('are read from upstream blocks only, without those marked down', () => {
    const text = `
http {
  map $x $y { server 1; default 2; }
  upstream quickpay { server 10.0.0.1:8080 weight=5; server 10.0.0.2:8080 down; # server 10.0.0.3:1;
    server "10.0.0.4:81"; server unix:/run/a.sock; server [::1]:9 backup; server app.internal; }
  server { listen 80; server_name x; location / { return 200 "server 10.9.9.9:1; }"; } }
  log_format a '\${host} {';
  upstream second{server 10.0.0.5:8080;}
}`;
    expect(upstreamAddresses(text)).toEqual([
      '10.0.0.1:8080',
      '10.0.0.4:81',
      'unix:/run/a.sock',
      '[::1]:9',
      'app.internal:80',
      '10.0.0.5:8080',
    ]);
  });

  it('are read from a file that an upstream block includes', () => {
    expect(upstreamAddresses('# generated\nserver 127.0.0.1:1;\nserver 127.0.0.1:2 down;\n')).toEqual(['127.0.0.1:1']);
  });
});

describe('what a line says besides its server lines', () => {
  it('is nothing for server lines and comments, and all of it otherwise', () => {
    expect(besidesServerLines('    server 127.0.0.1:1 weight=2; # app1')).toBe('');
    expect(besidesServerLines('# server 127.0.0.1:1;')).toBe('');
    expect(besidesServerLines('upstream q { server a:1; server b:1; }')).toBe('upstream q { }');
    expect(besidesServerLines('  server {')).toBe('server {');
    expect(besidesServerLines('  server_name a;')).toBe('server_name a ;');
    expect(besidesServerLines('  location /evil {  return 200;')).toBe('location /evil { return 200 ;');
  });
});
