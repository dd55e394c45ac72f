/** Every effect of the chart, over one world. The type is total: a forgotten effect does not compile. */
import type { Effects } from './effect.ts';
import { mergeBack } from './merge-back.ts';
import { preview } from './preview.ts';
import { publish } from './publish.ts';
import { publishWave } from './publish-wave.ts';
import { runTests } from './run-tests.ts';
import { soak } from './soak.ts';
import { drain, goLive, moveTraffic } from './switching.ts';
import { tag, undoTagging } from './tag.ts';
import type { World } from './world.ts';

export function createEffects(world: World): Effects {
  return {
    runTests: runTests(world),
    tag: tag(world),
    undoTagging: undoTagging(world),
    drain: drain(world),
    publish: publish(world),
    publishWave: publishWave(world),
    preview: preview(world),
    goLive: goLive(world),
    soak: soak(world),
    moveTraffic: moveTraffic(world),
    mergeBack: mergeBack(world),
  };
}
