/** Pins an environment: what it exactly consists of. Something must be pinned, and images by digest. */
import type { CreateEnvironmentLockRequest } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { Fault } from "../std/faults.ts";
import { byContent, draft, link, resolve, resolveOptional } from "./admission.ts";
import { bodyOf, checkDigest, checkPath } from "./body.ts";
import type { Caller, Deps } from "./context.ts";
import { specOf, write } from "./write.ts";

export const createEnvironmentLock = (
  deps: Deps,
  caller: Caller,
  request: CreateEnvironmentLockRequest,
  signal?: AbortSignal,
) => {
  const { lock } = request;
  for (const image of lock?.images ?? [])
    if (!/^sha256:[0-9a-f]{64}$/.test(image.digest))
      throw new Fault(
        "IMAGE_NOT_PINNED",
        `image ${image.name} has no digest: name it by the sha256 of its manifest, not by a tag`,
        { fields: [{ field: "lock.images", description: "is not pinned" }] },
      );
  for (const file of lock?.lockfiles ?? []) {
    checkDigest("lock.lockfiles.digest", file.digest);
    checkPath("lock.lockfiles.path", file.path);
  }
  if (lock?.packagesDigest !== undefined) checkDigest("lock.packages_digest", lock.packagesDigest);
  if (
    lock === undefined ||
    (lock.images.length === 0 && lock.lockfiles.length === 0 && lock.packagesDigest === undefined)
  )
    throw new Fault(
      "LOCK_EMPTY",
      "the lock pins nothing: give an image by digest, a lock file, or the digest of the installed packages",
    );
  const body = bodyOf("environment.lock", lock);
  return write(
    deps,
    caller,
    specOf(request, "environment.write"),
    (a) => {
      const environment = resolve(a, request.environment, ["environment"], "environment");
      const sbom = resolveOptional(a, request.sbom, ["artifact"], "sbom");
      const packages = resolveOptional(a, request.packages, ["artifact"], "packages");
      return byContent(
        a,
        draft(a, "environment.lock", body, [
          ...link("environment", environment),
          ...link("sbom", sbom),
          ...link("packages", packages),
        ]),
      );
    },
    signal,
  );
};
