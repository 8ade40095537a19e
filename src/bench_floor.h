/*
 * bench_floor.h - what a proposal is compared with: its bytes written to all
 * followers by the fabric alone, and by nothing but copies or a ping-pong.
 */
#ifndef MUPROXY_BENCH_FLOOR_H
#define MUPROXY_BENCH_FLOOR_H

#include "bench_group.h"

struct bench_floor;

/* Maps the followers' memory; `bytes` are what is sent. On failure the reason is on stderr. */
struct bench_floor *bench_floor_new(struct bench_group *group, const uint8_t *bytes);
void bench_floor_free(struct bench_floor *floor);

/*
 * `len` bytes to every follower by the fabric's bare writes, so many times at once, until
 * a majority has them all, as a proposal is over then. The protocol must be idle: it is
 * the leader's connections that are used, under its permission. `*ns` is what that took;
 * only then are the others waited for. False if a write failed.
 */
bool bench_floor_write(struct bench_floor *floor, size_t len, unsigned count, uint64_t *ns);

/* Likewise without the fabric: see bench_report.c on `copy`. */
bool bench_floor_copy(struct bench_floor *floor, size_t len, unsigned count, uint64_t *ns);

#endif
