import type { Command } from 'commander'
import { writeSecret } from '../mount/secret.js'

interface SecretOptions {
  output: string
  name?: string
}

/** `cephkit keyring …`: keys of Ceph's users. */
export function addKeyringCommands(program: Command): void {
  const keyring = program.command('keyring').description("keyrings, which have the keys of Ceph's users")
  keyring
    .command('secret')
    .argument('<file>', 'the keyring')
    .description('write the bare secret of a user into a file, with mode 0600')
    .requiredOption('--output <file>', 'where to; replaced if it is there')
    .option('--name <entity>', 'whose, such as client.web; needed where the keyring has several')
    .addHelpText(
      'after',
      `
For mount.ceph, which takes no keyring (option secretfile). The secret is not printed.

Example:
  $ cephkit keyring secret /etc/ceph/ceph.client.web.keyring --output /etc/ceph/ceph.client.web.secret`,
    )
    .action((file: string, { name, output }: SecretOptions) => writeSecret(file, name, output))
}
