/*
 * tcp_tune.h - what TCP is asked for on the streams of the tcp fabric, beyond what
 * the peering has asked for.
 */
#ifndef MU_TCP_TUNE_H
#define MU_TCP_TUNE_H

/* As far as this kernel can: where it cannot, streams are slower to get over lost packets. */
void tcp_tune(int fd);

#endif
