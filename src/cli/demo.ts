/** Placeholder until the demo is merged. */
export const runDemo = (_options: object): Promise<number> => Promise.reject(new Error('not yet'));
export const runDemoStop = (_root: string): Promise<void> => Promise.reject(new Error('not yet'));
