/** The Nginx of a sandbox. */
import { type FindOptions, findProgram } from './fetched-program.ts';

/** As `findProgram`: FLOW_NGINX, one that is installed, or a copy that is fetched. Throws NGINX_UNUSABLE and NGINX_MISSING. */
export async function findNginx(options: FindOptions = {}): Promise<string> {
  return await findProgram(
    {
      name: 'nginx',
      title: 'Nginx',
      variable: 'FLOW_NGINX',
      // Debian and Ubuntu moved the program between these packages over the years.
      packages: ['nginx', 'nginx-light', 'nginx-core'],
      paths: ['usr/sbin/nginx', 'usr/bin/nginx'],
      probe: { args: ['-v'], shows: ({ status }) => status === 0 },
      install: [
        'Debian, Ubuntu   sudo apt-get install nginx-light   (or nginx)',
        'Fedora, RHEL     sudo dnf install nginx',
        'Alpine           sudo apk add nginx',
        'macOS            brew install nginx',
      ],
    },
    options,
  );
}
