// Exceptions of several kinds, caught at several depths, with destructors on the way.
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

static thread_local unsigned sum;

struct Guard {
    explicit Guard(int value) : n(value) {}
    ~Guard() { sum += n; }
    int n;
};

__attribute__((noinline)) static void throwing(int depth, int how) {
    Guard guard(depth);
    if (depth > 0) {
        try {
            throwing(depth - 1, how);
        } catch (const std::out_of_range&) {
            sum += 1;
            if (how & 8) throw;
        }
        return;
    }
    switch (how & 7) {
        case 0:
            throw std::out_of_range("range");
        case 1:
            throw std::runtime_error("runtime");
        case 2:
            throw 7;
        case 3:
            sum += std::string("abc").at(how);
            break;
        case 4:
            sum += std::vector<int>().at(1);
            break;
        default:
            break;
    }
}

extern "C" unsigned exceptions(unsigned char byte) {
    sum = 0;
    try {
        throwing(byte % 13, byte >> 4);
    } catch (const std::exception& error) {
        sum += strlen(error.what());
    } catch (int n) {
        sum += n;
    }
    return sum;
}
