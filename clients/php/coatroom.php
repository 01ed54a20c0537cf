<?php
/*
 * Plain PHP sessions, kept by coatroom. The application stays as it is: $_SESSION comes from the request header
 * X-Session-Data, and what the application changed in it goes back as directives in the response head.
 *
 *     auto_prepend_file = /path/to/coatroom.php        (README.md beside this file: FPM, Apache, php -S)
 *
 * PHP 8.1 or newer, no extension. Limits:
 *
 *  - The session has to fit into the response head. The first mebibyte of output is held back so that $_SESSION can
 *    change until the end of the script; once the head has gone (more output than that, an ob_flush(),
 *    fastcgi_finish_request()), nothing can be changed. A change that comes too late is written to the error log.
 *  - A session is JSON. An object, an enum, INF, NAN or a text that is not UTF-8 is refused: error log, and 500 in
 *    place of the page. So is an entry whose name begins with `_`: coatroom reserves those.
 *  - PHP has one empty array, JSON has two: a new one is written as []. What was {} before stays {}.
 *  - Integers beyond 64 bits arrive as strings of digits; they go back as numbers while they are digits still.
 *  - What a request changed is sent entry by entry, so parallel requests that touch different entries all count;
 *    of two that assign the same entry the later one wins. coatroom_increment() is for counters.
 *  - One session a request, the one that the client's cookie names: session_id($other) is refused.
 *  - Not for SAPIs where one script serves many requests (RoadRunner, FrankenPHP workers, Swoole).
 */
declare(strict_types=1);

/** What coatroom knew of the session when the request came: `active`, `empty` or `unavailable`. */
function coatroom_state(): string
{
    $state = $_SERVER['HTTP_X_SESSION_STATE'] ?? '';
    return in_array($state, ['active', 'empty'], true) ? $state : 'unavailable';
}

/**
 * Adds to a number in the session so that parallel requests all count. Returns the sum as far as this request can know it.
 *
 * $_SESSION keeps the number that the request began with: were it to change too, it would be sent as an assignment.
 */
function coatroom_increment(string $key, int $by = 1): int|float
{
    return Coatroom::$request?->increment($key, $by) ?? throw new LogicException('coatroom serves no command line');
}

/** The session of this request, between PHP's session functions and coatroom's headers. */
final class Coatroom implements SessionHandlerInterface, SessionIdInterface, SessionUpdateTimestampHandlerInterface
{
    /** Bytes of output held back, so that a long download does not have to fit into memory. */
    private const HELD = 1 << 20;
    /** Bytes of a header line: Apache takes no more than 8,190 from FastCGI. */
    private const LINE = 8000;
    /** Levels of arrays in an entry: coatroom takes 32 with the object of entries. It also ends an array that contains itself. */
    private const DEEPEST = 31;
    private const NAMES = ['Flush', 'Clear', 'Cycle-Key', 'Delete', 'Set', 'Increment', 'Nonce'];

    public static ?self $request = null;

    /** Did the request come with a session at all? */
    private bool $given;
    /** The entries that coatroom has, as far as the response doesn't say otherwise. */
    private array $before;
    /** The same entries with maps as objects: a PHP array doesn't tell whether it was [] or {}. */
    private array $shape;
    /** The entries as PHP wrote them last. */
    private array $after;
    private array $steps = [];
    private bool $flushed = false;
    private bool $cycled = false;

    private string $id;
    private string $made = '';
    /** Is $_SESSION the session, or a variable like any other? */
    private bool $live = false;

    private array $announced = [];
    private bool $refused = false;
    private bool $told = false;
    private array $complaints = [];

    public static function start(): void
    {
        $request = self::$request = new self();
        if (session_status() === PHP_SESSION_ACTIVE) {
            $request->complain('session.auto_start has started a session before coatroom.php ran: it must be off');
            http_response_code(500);
            exit("The session could not be opened.\n");
        }
        // The cookie is coatroom's. An id from a URL or a form would be the client's choice of a session.
        foreach (['use_cookies' => '0', 'use_only_cookies' => '1', 'use_trans_sid' => '0', 'use_strict_mode' => '1',
            'serialize_handler' => 'php_serialize'] as $option => $value) {
            ini_set("session.$option", $value);
        }
        session_id($request->id);
        // Not at the first shutdown function, PHP's default here: those that follow may change $_SESSION too.
        session_set_save_handler($request, false);
        // Both, as an application may throw away all buffers or register a callback of its own.
        header_register_callback($request->head(...));
        ob_start($request->body(...), self::HELD);
    }

    private function __construct()
    {
        $data = $_SERVER['HTTP_X_SESSION_DATA'] ?? '';
        $entries = json_decode($data, true, 512, JSON_BIGINT_AS_STRING);
        $this->given = is_array($entries);
        $this->before = $this->after = $this->given ? $entries : [];
        $this->shape = (array) json_decode($data);
        $this->id = $_SERVER['HTTP_X_SESSION_ID'] ?? '';
    }

    public function increment(string $key, int $by): int|float
    {
        $number = ($this->live ? $_SESSION ?? [] : $this->after)[$key] ?? 0;
        if (!is_int($number) && !is_float($number)) {
            throw new UnexpectedValueException(self::name($key) . ' is not a number');
        }
        self::permit($key);
        if (headers_sent()) {
            $this->complain('the response head had gone before ' . self::name($key) . ' was incremented: not counted');
            return $number;
        }
        $this->steps[$key] = ($this->steps[$key] ?? 0) + $by;
        return $number + $this->steps[$key];
    }

    // ---- What PHP's session functions call

    public function open(string $path, string $name): bool
    {
        if (ini_get('session.serialize_handler') !== 'php_serialize') {
            throw new LogicException('coatroom needs session.serialize_handler = php_serialize');
        }
        return true;
    }

    public function close(): bool
    {
        $this->live = false;
        return true;
    }

    public function create_sid(): string
    {
        $caller = debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS, 2)[1]['function'] ?? '';
        $this->cycled = $this->cycled || $caller === 'session_regenerate_id';
        // Only a name to go by until the end of the request: coatroom alone makes tokens.
        $id = 'new-' . bin2hex(random_bytes(16));
        if ($caller !== 'session_create_id') {
            $this->made = $id;
        }
        return $id;
    }

    public function validateId(string $id): bool
    {
        // session_create_id() asks too, only in order to learn that its id is free.
        $caller = debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS, 2)[1]['function'] ?? '';
        if ($id !== $this->id && $id !== $this->made && $caller !== 'session_create_id') {
            throw new LogicException('behind coatroom session_id() cannot choose a session');
        }
        return $id === $this->id;
    }

    public function read(string $id): string|false
    {
        if ($id !== $this->id && $id !== $this->made) {
            throw new LogicException('behind coatroom session_id() cannot choose a session');
        }
        [$this->id, $this->live] = [$id, true];
        return serialize($this->after);
    }

    public function write(string $id, string $data): bool
    {
        $after = @unserialize($data, ['allowed_classes' => false]);
        if (!is_array($after)) {
            return $this->refuse('$_SESSION cannot be serialized');
        }
        $this->after = $after;
        return $this->announce($after);
    }

    public function updateTimestamp(string $id, string $data): bool
    {
        return $this->write($id, $data);
    }

    public function destroy(string $id): bool
    {
        // PHP makes the same calls for session_regenerate_id(true) as for session_destroy() with a session_start()
        // after it. Only who called tells whether the data is to live on.
        $caller = debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS, 2)[1]['function'] ?? '';
        if ($caller === 'session_regenerate_id') {
            return true;
        }
        $this->live = $this->cycled = false;
        $this->before = $this->shape = $this->after = $this->steps = [];
        $this->flushed = true;
        return $this->announce();
    }

    public function gc(int $max_lifetime): int|false
    {
        return 0;
    }

    // ---- What goes out

    /** The last moment for a header, whatever made the head go. */
    private function head(): void
    {
        if (session_status() === PHP_SESSION_ACTIVE && !$this->live) {
            $this->complain('the application has set a session handler of its own: coatroom does not keep this session');
        }
        $this->announce();
    }

    private function body(string $output, int $phase): string
    {
        if ($phase & PHP_OUTPUT_HANDLER_CLEAN) {
            return $output;
        }
        if (!headers_sent()) {
            $this->announce();
        }
        if (!$this->refused) {
            return $output;
        }
        $first = !$this->told;
        $this->told = true;
        return $first ? "The session could not be kept.\n" : '';
    }

    /** Makes the response say what has become of the session so far; false if it can't. */
    private function announce(?array $after = null): bool
    {
        $lines = $this->lines($after);
        if (headers_sent($file, $line)) {
            if ($lines !== $this->announced) {
                $late = array_map(fn ($line) => strstr($line, ':', true), array_diff($lines, $this->announced) ?: $lines);
                $this->complain('the session changed after the response head had gone' . ($file ? " ($file:$line)" : '')
                    . ', too late for ' . (implode(', ', array_unique($late)) ?: 'taking back what the head says'));
                return false;
            }
            return !$this->refused;
        }
        // A directive that the application sent by hand stays, and so does the order of repeated ones.
        $by_hand = preg_grep('/^X-Session-(' . implode('|', self::NAMES) . '):/i', headers_list());
        $by_hand = array_diff($by_hand, $this->announced);
        foreach (self::NAMES as $name) {
            header_remove("X-Session-$name");
        }
        foreach ([...$by_hand, ...$lines] as $header) {
            header($header, false);
        }
        $this->announced = $lines;
        if ($this->refused) {
            foreach (['Location', 'Content-Length', 'Content-Encoding', 'Content-Disposition', 'ETag'] as $name) {
                header_remove($name);
            }
            header('Content-Type: text/plain; charset=utf-8');
            http_response_code(500);
        }
        return !$this->refused;
    }

    /** The directives that turn what coatroom has into what PHP has. */
    private function lines(?array $after): array
    {
        // A logout or a new key must not fail because of an entry that can't be kept: coatroom obeys these with a 500.
        $lines = array_merge($this->flushed ? ['X-Session-Flush: true'] : [], $this->cycled ? ['X-Session-Cycle-Key: true'] : []);
        try {
            $lines = [...$lines, ...$this->difference($after ?? $this->entries())];
        } catch (Throwable $error) {
            $this->refuse($error->getMessage());
        }
        if ($lines !== [] && !$this->given) {
            $this->refuse('the session changed, but this request has no valid X-Session-Data: it did not come through'
                . ' coatroom, or its route has no session');
            return [];
        }
        $nonce = $_SERVER['HTTP_X_SESSION_NONCE'] ?? '';
        return $lines === [] || $nonce === '' ? $lines : [...$lines, "X-Session-Nonce: $nonce"];
    }

    private function entries(): array
    {
        // What PHP would write now, and not $_SESSION itself: after unset($_SESSION) PHP still writes the session.
        $data = $this->live ? @session_encode() : false;
        return $data ? unserialize($data, ['allowed_classes' => false]) : $this->after;
    }

    private function difference(array $after): array
    {
        $lines = [];
        if ($after === [] && $this->before !== []) {
            // Emptied: that means the entries which this application was not shown, too.
            $lines[] = 'X-Session-Clear: true';
        } else {
            $gone = array_keys(array_diff_key($this->before, $after));
            $lines = self::wrap('Delete', '[', array_map(fn ($key) => self::permit((string) $key), $gone), ']');
        }
        $set = [];
        foreach ($after as $key => $value) {
            $known = array_key_exists($key, $this->before);
            if ($known && $value === $this->before[$key]) {
                continue;
            }
            try {
                $set[] = self::permit((string) $key) . ':' . self::json($value, $this->shape[$key] ?? null);
            } catch (JsonException $error) {
                throw new UnexpectedValueException(self::name($key) . ' is no JSON: ' . $error->getMessage());
            }
        }
        $steps = [];
        foreach ($this->steps as $key => $by) {
            $steps[] = self::permit((string) $key) . ":$by";
        }
        return [...$lines, ...self::wrap('Set', '{', $set, '}'), ...self::wrap('Increment', '{', $steps, '}')];
    }

    /** As few header lines as hold the items; repeated lines count in order. */
    private static function wrap(string $name, string $open, array $items, string $close): array
    {
        $lines = [];
        $line = '';
        foreach ($items as $item) {
            if ($line !== '' && strlen($line) + strlen($item) > self::LINE) {
                $lines[] = "X-Session-$name: $open$line$close";
                $line = '';
            }
            $line .= ($line === '' ? '' : ',') . $item;
        }
        return $line === '' ? $lines : [...$lines, "X-Session-$name: $open$line$close"];
    }

    /** The JSON of a key that an application may change. */
    private static function permit(string $key): string
    {
        if (str_starts_with($key, '_')) {
            throw new UnexpectedValueException(self::name($key) . ' is reserved: its name begins with _');
        }
        return self::scalar($key);
    }

    /** JSON in visible ASCII. `$was` is what stood in this place, with maps as objects. */
    private static function json(mixed $value, mixed $was, int $levels = self::DEEPEST): string
    {
        if (is_string($value) && is_float($was) && abs($was) >= PHP_INT_MAX && preg_match('/^-?[1-9]\d*$/D', $value)) {
            return $value;
        }
        if (!is_array($value)) {
            return self::scalar($value);
        }
        if ($levels === 0) {
            throw new JsonException('more than ' . self::DEEPEST . ' levels');
        }
        $inner = is_object($was) || is_array($was) ? (array) $was : [];
        // Where it could be either, it stays what it was.
        $map = is_object($was) && ($value === [] || ($inner !== [] && array_is_list($inner)));
        $list = array_is_list($value) && !$map;
        $items = [];
        foreach ($value as $key => $item) {
            $items[] = ($list ? '' : self::scalar((string) $key) . ':') . self::json($item, $inner[$key] ?? null, $levels - 1);
        }
        return $list ? '[' . implode(',', $items) . ']' : '{' . implode(',', $items) . '}';
    }

    private static function scalar(mixed $value): string
    {
        if (is_object($value)) {
            $class = $value instanceof __PHP_Incomplete_Class ? ((array) $value)['__PHP_Incomplete_Class_Name'] : $value::class;
            throw new JsonException("an object of class $class");
        }
        if (is_float($value)) {
            // Whatever php.ini says: fewer digits would be another number.
            $digits = ini_set('serialize_precision', '-1');
        }
        try {
            $json = json_encode($value, JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_PRESERVE_ZERO_FRACTION);
        } finally {
            isset($digits) && $digits !== false && ini_set('serialize_precision', $digits);
        }
        return str_replace("\x7f", '\u007f', $json);
    }

    private static function name(string|int $key): string
    {
        return '$_SESSION[' . json_encode((string) $key, JSON_INVALID_UTF8_SUBSTITUTE) . ']';
    }

    private function refuse(string $why): bool
    {
        $this->complain($why);
        $this->refused = $this->refused || !headers_sent();
        return false;
    }

    /** Once each: the same difference is looked at several times. */
    private function complain(string $what): void
    {
        if (!in_array($what, $this->complaints, true)) {
            $this->complaints[] = $what;
            error_log("coatroom: $what");
        }
    }
}

// The command line has no request; a cron script keeps PHP's own sessions.
if (PHP_SAPI !== 'cli' && PHP_SAPI !== 'phpdbg') {
    Coatroom::start();
}
