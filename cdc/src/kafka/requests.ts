/** A message and its share of a record batch, bytes, rounded up. */
export interface SizedMessage<M> {
  readonly message: M;
  readonly bytes: number;
}

/** Messages of one partition, in their order. */
export interface PartitionMessages<M> {
  readonly topic: string;
  readonly partition: number;
  readonly sized: readonly SizedMessage<M>[];
}

/** Messages of one partition that go into one record batch. */
export interface RecordBatch<M> {
  readonly topic: string;
  readonly partition: number;
  readonly messages: readonly M[];
  /** An upper bound of what the broker will count, compressed or not. */
  readonly bytes: number;
}

export interface SizeLimits {
  /** Of a record batch: what the topic takes, and never more than a request. */
  maxBatchBytes(topic: string): number;
  /** Of one request to a broker. */
  readonly maxRequestBytes: number;
  /** Of one request: what kafkajs holds for a partition while it is sent takes far more memory than a few rows. */
  readonly maxRequestPartitions: number;
}

/** Length, attributes, timestamp and offset deltas, key, value and header lengths: at most. */
export const MESSAGE_OVERHEAD_BYTES = 40;
/** A record batch's header, and what names it in the request: a topic of up to 249 characters; and the request's own header. */
const BATCH_OVERHEAD_BYTES = 512;
/** Compression of noise makes it a little longer. */
const COMPRESSION_GROWTH = 1.01;

/**
 * Cuts messages into requests that the broker takes, to be sent one after the other: kafkajs makes one record batch of all messages of a
 * partition, and the broker refuses it as a whole past max.message.bytes. Order within a partition is kept. A message over its topic's limit
 * comes in a request of its own: when it is refused nothing else is.
 */
export function planRequests<M>(messages: readonly PartitionMessages<M>[], limits: SizeLimits): RecordBatch<M>[][] {
  const queues = messages.map((one) => cut(one, limits.maxBatchBytes(one.topic)));
  const requests: RecordBatch<M>[][] = [];
  let request: RecordBatch<M>[] = [];
  let requestBytes = 0;
  const flush = () => {
    if (request.length > 0) requests.push(request);
    request = [];
    requestBytes = 0;
  };
  for (let round = 0; queues.some((queue) => queue.length > round); round++) {
    for (const queue of queues) {
      const batch = queue[round];
      if (!batch) continue;
      const alone = batch.bytes > limits.maxBatchBytes(batch.topic);
      if (alone || request.length >= limits.maxRequestPartitions || requestBytes + batch.bytes > limits.maxRequestBytes) flush();
      request.push(batch);
      requestBytes += batch.bytes;
      if (alone) flush();
    }
    // One record batch of a partition per request, or kafkajs would make one of two.
    flush();
  }
  return requests;
}

function cut<M>({ topic, partition, sized }: PartitionMessages<M>, limit: number): RecordBatch<M>[] {
  const batches: RecordBatch<M>[] = [];
  let messages: M[] = [];
  let bytes = 0;
  for (const item of sized) {
    if (messages.length > 0 && batchBytes(bytes + item.bytes) > limit) {
      batches.push({ topic, partition, messages, bytes: batchBytes(bytes) });
      messages = [];
      bytes = 0;
    }
    messages.push(item.message);
    bytes += item.bytes;
  }
  if (messages.length > 0) batches.push({ topic, partition, messages, bytes: batchBytes(bytes) });
  return batches;
}

const batchBytes = (bytes: number): number => Math.ceil(bytes * COMPRESSION_GROWTH) + BATCH_OVERHEAD_BYTES;
