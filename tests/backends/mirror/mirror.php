<?php
// Shows every header of the request as PHP has it: in $_SERVER, and as the server read it.
header('Content-Type: text/plain');
if (str_starts_with($_SERVER['REQUEST_URI'], '/set')) header('X-Session-Set: {"a":1}');
foreach ($_SERVER as $name => $value) {
    if (preg_match('/^(HTTP_|CONTENT_)/', $name)) echo "$name\t$value\n";
}
foreach (getallheaders() as $name => $value) echo "$name\t$value\n";
