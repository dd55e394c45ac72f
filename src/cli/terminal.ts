/** What the terminal can do, asked per stream: a result may be piped while progress is still read by a person. */
import { type Paint, paintFor } from '../views/text.ts';

export interface Terminal {
  /** A person can be asked: input and the error stream are a terminal that can be redrawn, and this is no CI run. */
  interactive: boolean;
  /** The error stream may be redrawn. */
  redraws: boolean;
  outColour: boolean;
  outPaint: Paint;
  errPaint: Paint;
}

/** Looks at the streams and the environment (NO_COLOR, FORCE_COLOR, CI, TERM=dumb, the locale). */
export function terminal(): Terminal {
  const { env, stdin, stdout, stderr } = process;
  const dumb = env.TERM === 'dumb' || (env.CI ?? '') !== '';
  const colour = (stream: NodeJS.WriteStream) =>
    (env.NO_COLOR ?? '') === '' && ((env.FORCE_COLOR ?? '') !== '' || (stream.isTTY && !dumb));
  const unicode = /utf-?8/i.test(env.LC_ALL ?? env.LC_CTYPE ?? env.LANG ?? 'C.UTF-8');
  const outColour = colour(stdout);
  return {
    interactive: stdin.isTTY && stderr.isTTY && !dumb,
    redraws: stderr.isTTY && !dumb,
    outColour,
    outPaint: paintFor(outColour, unicode),
    errPaint: paintFor(colour(stderr), unicode),
  };
}
