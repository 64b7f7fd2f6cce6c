/** The few calls of the C library that neither Bun nor Node offers: file locks, parent-death signals, exec. */
import { dlopen, type FFIFunction, type Library } from "bun:ffi";

const fileNames: Readonly<Record<string, readonly string[]>> = {
  linux: ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"],
  darwin: ["libSystem.B.dylib"],
};

/** Opens the C library of this system, glibc or musl. @throws Error when none of the known names can be loaded. */
export function openLibc<S extends Record<string, FFIFunction>>(symbols: S): Library<S>["symbols"] {
  let failure: unknown = new Error(`the C library's name on ${process.platform} is not known`);
  for (const name of fileNames[process.platform] ?? []) {
    try {
      return dlopen(name, symbols).symbols;
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}
