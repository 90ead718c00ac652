/* Needs what nobody has. */
int nowhere_to_be_found(void);

int answer(void) {
    return nowhere_to_be_found();
}
