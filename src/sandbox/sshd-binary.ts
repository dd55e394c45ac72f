/** The sshd of a sandbox whose machines are reached over ssh. */
import { type FindOptions, findProgram } from './fetched-program.ts';

/** As `findProgram`: FLOW_SSHD, one that is installed, or a copy that is fetched. Throws SSHD_UNUSABLE and SSHD_MISSING. */
export async function findSshd(options: FindOptions = {}): Promise<string> {
  return await findProgram(
    {
      name: 'sshd',
      title: 'sshd',
      variable: 'FLOW_SSHD',
      packages: ['openssh-server'],
      paths: ['usr/sbin/sshd'],
      // It has no harmless option in every version; asked for one that it does not have, it says its name.
      probe: { args: ['-?'], shows: ({ stderr }) => stderr.includes('OpenSSH') },
      install: [
        'Debian, Ubuntu   sudo apt-get install openssh-server',
        'Fedora, RHEL     sudo dnf install openssh-server',
      ],
    },
    options,
  );
}
