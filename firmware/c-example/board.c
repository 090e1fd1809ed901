/*
 * Registers of the LM3S6965, the start, the tick, the console, and the four functions that a C compiler expects though nothing else of a C library is there.
 */
#include "board.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))

#define SYSCTL_RCGC1 REGISTER(0x400FE104)
#define UART_DR REGISTER(0x4000C000)
#define UART_FR REGISTER(0x4000C018)
#define UART_IBRD REGISTER(0x4000C024)
#define UART_FBRD REGISTER(0x4000C028)
#define UART_LCRH REGISTER(0x4000C02C)
#define UART_CTL REGISTER(0x4000C030)
#define SYST_CSR REGISTER(0xE000E010)
#define SYST_RVR REGISTER(0xE000E014)
#define SYST_CVR REGISTER(0xE000E018)

enum {
    RECEIVE_EMPTY = 1 << 4,
    TRANSMIT_FULL = 1 << 5,
    CLOCK_HZ = 12500000, /* what QEMU gives the core after a reset */
    TICKS_PER_SECOND = 1000,
    SYS_WRITE0 = 4
};

static volatile uint32_t ticks;

void board_start(void)
{
    SYST_RVR = CLOCK_HZ / TICKS_PER_SECOND - 1;
    SYST_CVR = 0;
    SYST_CSR = 7; /* on, with its interrupt, by the core's clock */
    SYSCTL_RCGC1 = 1;
    UART_IBRD = 6; /* 115,200 baud of 12.5 MHz: 6 + 50/64 */
    UART_FBRD = 50;
    UART_LCRH = 3 << 5 | 1 << 4; /* 8 bits, FIFO */
    UART_CTL = 1 | 1 << 8 | 1 << 9;
}

uint64_t board_uptime_us(void)
{
    static uint32_t seen, wraps;
    uint32_t now = ticks;
    wraps += now < seen;
    seen = now;
    return ((uint64_t)wraps << 32 | now) * (1000000 / TICKS_PER_SECOND);
}

void board_rest(void)
{
    __asm__ volatile("wfi" ::: "memory");
}

bool board_take(uint8_t *byte)
{
    if (UART_FR & RECEIVE_EMPTY)
        return false;
    *byte = (uint8_t)UART_DR;
    return true;
}

void board_send(const uint8_t *bytes, size_t len)
{
    while (len-- > 0) {
        while (UART_FR & TRANSMIT_FULL) {
        }
        UART_DR = *bytes++;
    }
}

/* How far the tick counter has come after each sleep depends on the world outside; 64 sleeps are stirred. */
void board_draw(uint8_t into[16])
{
    uint64_t pot[2] = {0xcbf29ce484222325u, 0x62b821756295c58du};
    for (int sleep = 0; sleep < 64; sleep++) {
        uint64_t *half = &pot[sleep % 2];
        board_rest();
        *half = (*half ^ SYST_CVR ^ pot[1 - sleep % 2] >> 31) * 0x100000001b3u;
    }
    for (int at = 0; at < 16; at++)
        into[at] = (uint8_t)(pot[at / 8] >> (at % 8 * 8));
}

void board_print(const char *const pieces[])
{
    char line[160];
    size_t len = 0;
    for (; *pieces; pieces++)
        for (const char *at = *pieces; *at && len < sizeof line - 2; at++)
            line[len++] = *at;
    line[len++] = '\n';
    line[len] = 0;
    register int operation __asm__("r0") = SYS_WRITE0;
    register const char *text __asm__("r1") = line;
    __asm__ volatile("bkpt 0xAB" : "+r"(operation) : "r"(text) : "memory");
}

void *memcpy(void *restrict into, const void *restrict from, size_t len)
{
    for (size_t at = 0; at < len; at++)
        ((uint8_t *)into)[at] = ((const uint8_t *)from)[at];
    return into;
}

void *memset(void *into, int byte, size_t len)
{
    for (size_t at = 0; at < len; at++)
        ((uint8_t *)into)[at] = (uint8_t)byte;
    return into;
}

extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[], stack_top[];
int main(void);

/* Fills the RAM that is the program's, and nothing above it. */
void reset(void)
{
    uint32_t *from = data_load;
    for (uint32_t *to = data_start; to < data_end; to++)
        *to = *from++;
    for (uint32_t *to = bss_start; to < bss_end; to++)
        *to = 0;
    main();
    for (;;)
        board_rest();
}

static void tick(void)
{
    ticks = ticks + 1;
}

static void fault(void)
{
    board_print((const char *const[]){"broken: a fault of the processor", NULL});
    for (;;) {
    }
}

typedef void (*handler)(void);

__attribute__((section(".vectors"), used)) static const struct {
    const uint32_t *stack;
    handler handlers[15];
} vectors = {stack_top, {reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, tick}};
