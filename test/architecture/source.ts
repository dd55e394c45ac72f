/**
 * Reads source files with the TypeScript parser: what they import, which names they use, how they begin.
 * Text inside comments and strings is never taken for code.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import ts from 'typescript';

/** Source texts by path, relative to the root of the repository, with `/`. */
export type Sources = ReadonlyMap<string, string>;

export interface Import {
  /** A path of this repository, a package's name, or `node:…`. */
  target: string;
  line: number;
  /** Written as `import type`, so that nothing is loaded. */
  typeOnly: boolean;
}

export interface Use {
  /** An identifier, or two with a dot between them. */
  name: string;
  line: number;
}

export interface Source {
  imports: Import[];
  uses: Use[];
  /** Files of the repository named by a string (`new URL('./server.ts', …)`), which are started rather than imported. */
  mentions: string[];
}

const CODE = /\.(?:tsx?|mts|mjs|js)$/;

/** Every source file below the folders. */
export function readSources(root: string, folders: readonly string[]): Sources {
  const paths = folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => !name.includes('node_modules'))
      .map((name) => posix.join(folder, name)),
  );
  return new Map(paths.filter((path) => CODE.test(path)).map((path) => [path, readFileSync(join(root, path), 'utf8')]));
}

/** Reads one file. */
export function parseSource(path: string, text: string): Source {
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const source: Source = { imports: [], uses: [], mentions: [] };
  const lineOf = (node: ts.Node) => file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1;

  const addImport = (specifier: ts.Node | undefined, typeOnly: boolean) => {
    if (specifier === undefined || !ts.isStringLiteralLike(specifier)) return;
    source.imports.push({ target: targetOf(path, specifier.text), line: lineOf(specifier), typeOnly });
  };

  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      addImport(node.moduleSpecifier, node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword);
    } else if (ts.isExportDeclaration(node)) {
      addImport(node.moduleSpecifier, node.isTypeOnly);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      addImport(node.arguments[0], false);
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      addImport(node.argument.literal, true);
    } else if (ts.isStringLiteralLike(node) && /^\.{1,2}\//.test(node.text)) {
      source.mentions.push(targetOf(path, node.text));
    } else if (ts.isPropertyAccessExpression(node) && ts.isIdentifier(node.expression)) {
      source.uses.push({ name: `${node.expression.text}.${node.name.text}`, line: lineOf(node) });
    } else if (ts.isIdentifier(node) && isUsed(node)) {
      source.uses.push({ name: node.text, line: lineOf(node) });
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return source;
}

/** False for names that are only written down (`a.process`, `{ process: 1 }`), not looked up. */
function isUsed(node: ts.Identifier): boolean {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
  if (ts.isQualifiedName(parent)) return parent.left === node;
  const isOwnName =
    ts.isPropertyAssignment(parent) ||
    ts.isPropertySignature(parent) ||
    ts.isPropertyDeclaration(parent) ||
    ts.isMethodDeclaration(parent) ||
    ts.isMethodSignature(parent);
  return !(isOwnName && parent.name === node);
}

/** `./x.ts` becomes a path of the repository; `@scope/name/part` becomes the package's name. */
function targetOf(from: string, specifier: string): string {
  if (specifier.startsWith('.')) return posix.join(posix.dirname(from), specifier);
  if (specifier.startsWith('node:')) return specifier;
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}
