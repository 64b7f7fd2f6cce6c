/** grpc.health.v1.Health: whether the server answers; there is no health of single services. */
import { invalidArgument } from "../../core/errors.ts";
import { HealthCheckResponse_ServingStatus, HealthService } from "../../rpc/gen/grpc/health/v1/health.ts";
import { type BoundService, bindService } from "../../rpc/service.ts";

const serving = { status: HealthCheckResponse_ServingStatus.SERVING };

export function createHealthApi(): BoundService {
  return bindService(HealthService, {
    async check({ service }) {
      refuseService(service);
      return serving;
    },

    async *watch({ service }, { signal }) {
      refuseService(service);
      yield serving;
      await new Promise<void>((resolve) => {
        if (signal.aborted) resolve();
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    },
  });
}

function refuseService(service: string): void {
  if (service !== "") throw invalidArgument("per-service health is not supported");
}
