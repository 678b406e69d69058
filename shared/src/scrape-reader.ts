import { AggregationTemporality, InstrumentType, MetricReader } from "@opentelemetry/sdk-metrics";

/**
 * Reads metrics when somebody scrapes. As exporter-prometheus does, but for gauges that are asked: that one goes on telling the last value
 * of whatever was ever told (a partition that another router has now, a slot that is gone), for it reads them cumulatively.
 */
export class ScrapeReader extends MetricReader {
  constructor() {
    super({
      aggregationTemporalitySelector: (type) =>
        type === InstrumentType.OBSERVABLE_GAUGE ? AggregationTemporality.DELTA : AggregationTemporality.CUMULATIVE,
    });
  }

  protected override async onForceFlush(): Promise<void> {}

  protected override async onShutdown(): Promise<void> {}
}
