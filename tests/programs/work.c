/* ordinary library work after its input is opened: sorting, printing, jumps out of depth */
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static jmp_buf out;

static int order(const void *a, const void *b)
{
    return *(const unsigned char *)a - *(const unsigned char *)b;
}

static int deep(int n)
{
    if (n == 0)
        longjmp(out, 7);
    return deep(n - 1) + 1;
}

int main(int argc, char **argv)
{
    unsigned char text[4096];
    int fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;
    if (fd < 0)
        return 2;
    ssize_t size = read(fd, text, sizeof text);
    close(fd);
    qsort(text, (size_t)size, 1, order);
    unsigned sum = 0;
    for (ssize_t i = 0; i < size; i++)
        sum = sum * 31 + text[i];
    if (setjmp(out) == 0)
        deep(20);
    char line[64];
    snprintf(line, sizeof line, "%u %s %.3f\n", sum, "sum", sum / 3.0);
    return write(1, line, strlen(line)) < 0;
}
