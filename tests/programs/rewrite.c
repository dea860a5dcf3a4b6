/* code that is written while the program runs */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint8_t *code;
static volatile int stop;

static int run(void)
{
    return ((int (*)(void))code)();
}

static void put(int value, int shape)
{
    uint8_t *to = code;
    for (int i = 0; i < shape; i++)
        *to++ = 0x90;
    if (shape & 1) {
        *to++ = 0xeb; /* over three bytes that are never run */
        *to++ = 3;
        memset(to, 0xcc, 3);
        to += 3;
    }
    *to++ = 0xb8;
    memcpy(to, &value, 4);
    to[4] = 0xc3;
}

static void *idle(void *argument)
{
    while (!stop)
        usleep(1000);
    return argument;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    code = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long sum = 0;
    if (!strcmp(what, "jit")) {
        for (int i = 0; i < 200; i++) {
            put(i, i % 7);
            sum += run();
            sum += run();
        }
    } else if (!strcmp(what, "threads")) {
        pthread_t other;
        pthread_create(&other, NULL, idle, NULL);
        for (int i = 0; i < 50; i++) {
            put(i, i % 3);
            sum += run();
            if (i % 10 == 0)
                usleep(3000);
        }
        stop = 1;
        pthread_join(other, NULL);
    } else if (!strcmp(what, "self")) {
        /* a loop that changes an instruction of its own block, behind and before the store */
        static const uint8_t loop[] = {
            0xb9, 20,   0,    0,    0,       /*    mov ecx, 20 */
            0x31, 0xc0,                      /*    xor eax, eax */
            0x48, 0x8d, 0x15, 0x09, 0, 0, 0, /* 7: lea rdx, [rip+9] → 0x17 */
            0xfe, 0x02,                      /* e: inc byte [rdx]: the operand of the add */
            0x80, 0x42, 0x01, 0x00,          /*10: add byte [rdx+1], 0 */
            0x90, 0x90,                      /*14 */
            0x05, 0,    0,    0,    0,       /*16: add eax, imm */
            0xff, 0xc9,                      /*1b: dec ecx */
            0x75, 0xef,                      /*1d: jne e */
            0xc3,
        };
        memcpy(code, loop, sizeof loop);
        for (int i = 0; i < 3; i++)
            sum += run();
        /* the first instruction of the loop changes the loop: taken up again where the branch goes too */
        static const uint8_t head[] = {
            0xb9, 20,   0,    0,    0,       /*    mov ecx, 20 */
            0x31, 0xc0,                      /*    xor eax, eax */
            0x48, 0x8d, 0x15, 0x03, 0, 0, 0, /* 7: lea rdx, [rip+3] → 0x11 */
            0xfe, 0x02,                      /* e: inc byte [rdx] */
            0x05, 0,    0,    0,    0,       /*10: add eax, imm */
            0xff, 0xc9,                      /*15: dec ecx */
            0x75, 0xf5,                      /*17: jne e */
            0xc3,
        };
        memcpy(code + 256, head, sizeof head);
        code += 256;
        for (int i = 0; i < 3; i++)
            sum += run();
    } else {
        return 2;
    }
    printf("%ld\n", sum);
    return 0;
}
