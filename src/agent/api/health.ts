/** grpc.health.v1 on the Workload API's socket: whether the agent has what it needs to serve. */
import { invalidArgument } from "../../core/errors.ts";
import {
  HealthService,
  HealthCheckResponse_ServingStatus as Status,
} from "../../rpc/gen/grpc/health/v1/health.ts";
import { type BoundService, bindService } from "../../rpc/service.ts";

/** Only the whole agent has a health, as in SPIRE. `isReady` says whether the first sync is in. */
export function createHealthApi(isReady: () => boolean): BoundService {
  return bindService(HealthService, {
    async check({ service }) {
      if (service !== "") throw invalidArgument("per-service health is not supported");
      return { status: isReady() ? Status.SERVING : Status.NOT_SERVING };
    },
  });
}
