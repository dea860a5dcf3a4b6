/* a library; FACTOR makes one unlike the other */
int answer(int n)
{
    int x = n * FACTOR;
    while (x > 50)
        x -= FACTOR + 3;
    return x % 2 ? x : -x;
}
