/* QEMU's lm3s6965evb: what the program needs of it, and no more. */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Starts the tick and the first UART, which leads to the gateway. */
void board_start(void);

/* Microseconds since the start; never goes back. */
uint64_t board_uptime_us(void);

/* Sleeps until something may have happened: a tick, a millisecond, at the latest. */
void board_rest(void);

/* Takes a byte from the UART, if one has come. */
bool board_take(uint8_t *byte);

/* Sends bytes over the UART, waiting where it must. */
void board_send(const uint8_t *bytes, size_t len);

/* 16 bytes that no other device and no other call will draw. This board has no generator, so the jitter of the tick is stirred; a product takes its generator. */
void board_draw(uint8_t into[16]);

/* One line for whoever watches: pieces of text, ended by NULL. By semihosting, which stops a processor without a debugger. */
void board_print(const char *const pieces[]);

#endif
